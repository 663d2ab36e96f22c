"""Whether the time that this process goes by is believed.

Work that can't be undone waits for that.  The time is compared with the system's clock, with the database's (SQLite has
none) and with the record, whose head keeps the latest time of an event.  While it is a minute off any of them,
irreversible work rests.  Answers go on, by the time from before the system's clock jumped: neither is everything
refused nor is what has expired taken.  It fixes itself:

* A jump that stands is followed: after a minute if the database's clock says the same, after ten if there is none.
  Irreversible work rests for an hour more, as both clocks may be of one machine.
* It also rests so if a process begins ten minutes or more after the time was last believed.  The head keeps that time
  to the minute; nothing shows how long ago it really is.  What is written meanwhile doesn't change it, for the
  processes that begin next.
* A record that is ahead counts no more once it has stood for an hour while the clock went evenly: a clock that was
  wrong wrote it.  Were it right, work that begins too late destroys nothing early.

Whatever is set back ends leases and access tokens (:meth:`broker.base.clock.Timepiece.void`): what had expired stays
expired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.durability import ASKED
from broker.audit.tables import HeadRow
from broker.base.clock import APART_MS, Clock, Millis, Timepiece, later, now_ms, steady_ms
from broker.base.db import EVERY_TENANT, Database

_log = structlog.get_logger()

OK = "ok"
# Why the time isn't believed, with its fix.
CAUSES = {
    "system": "the system's clock jumped or is wrong; the broker goes on by the time before: see that NTP runs",
    "database": "the database's clock and this system's are over a minute apart: set the one that is wrong",
    "record": "the record holds a later time than this clock shows: see that the clock is right; an hour settles it",
    "unproven": "the clock was set within the hour, or no broker ran before: it settles by itself",
}
_LOOK_S = 5.0
_SECONDED_MS = 60_000
_ALONE_MS = 600_000
_PROVEN_MS = 3_600_000
_KEPT_MS = 60_000
_DATABASE_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")


async def database_now(session: AsyncSession) -> Millis | None:
    """What the database's own clock shows; None if it has none."""
    if session.get_bind().dialect.name != "postgresql":
        return None
    shown: Millis | None = await session.scalar(_DATABASE_NOW)
    return shown


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from."""

    system: Clock = now_ms
    steady: Callable[[], int] = steady_ms
    database: Callable[[AsyncSession], Awaitable[Millis | None]] = database_now


REAL = Clocks()


class _Others(NamedTuple):
    """The record's latest time, the one last believed, and how far the database is ahead.

    The database's clock is ahead by so much for sure.
    """

    latest: Millis
    believed: Millis
    ahead: int | None


class _Since(NamedTuple):
    """A number that stands, and since when it does by the steady clock."""

    number: int
    at: int


class Timekeeping:
    """Compares one process's time with others', and sets it."""

    def __init__(self, db: Database, time: Timepiece, clocks: Clocks) -> None:
        self._db = db
        self._time = time
        self._clocks = clocks
        self._jump: _Since | None = None
        self._record: _Since | None = None
        self._proven_at = 0
        self._stopped = asyncio.Event()
        self.state = OK

    async def begin(self) -> None:
        """Start from the database's clock if the system's is far off it.

        The database's is everybody's.
        """
        latest, believed, ahead = await self._others()
        if ahead is not None and abs(ahead) > APART_MS:
            self._time.set(later(self._time(), ahead))
        now = self._time()
        if latest > now + APART_MS:
            self._time.void()
        if believed and now - believed > _ALONE_MS:
            self._proven_at = self._time.steady() + _PROVEN_MS
        await self.look()

    async def watch(self, every_s: float = _LOOK_S) -> None:
        """Look again every few seconds, until :meth:`stop`."""
        while not self._stopped.is_set():
            try:
                async with asyncio.timeout(every_s):
                    await self._stopped.wait()
            except TimeoutError:
                with suppress(Exception):  # a database that is away says so elsewhere; final work looks again
                    await self.look()

    def stop(self) -> None:
        """Let :meth:`watch` end once it has looked."""
        self._stopped.set()

    async def look(self) -> str:
        """``ok``, or why the time isn't believed now: one of :data:`CAUSES`."""
        others = await self._others()
        found = self._judge(others.latest, others.ahead)
        if found != self.state:
            log = _log.info if found == OK else _log.warning
            log("clock.believed" if found == OK else "clock.not_believed", cause=found, system_ahead=self._time.apart)
        self.state = found
        if found == OK and self._time() - others.believed >= _KEPT_MS:
            await self._keep()
        return found

    async def _keep(self) -> None:
        now = self._time()
        async with self._db.write(EVERY_TENANT) as session:
            await session.execute(update(HeadRow).where(HeadRow.believed < now).values(believed=now))

    async def _others(self) -> _Others:
        async with self._db.read(EVERY_TENANT) as session:
            await session.execute(ASKED[self._db.dialect])
            latest, believed = (await session.execute(select(HeadRow.latest, HeadRow.believed))).one()
            asked = self._time.steady()
            database = await self._clocks.database(session)
            now, took = self._time(), self._time.steady() - asked
        if database is None:
            return _Others(latest, believed, None)
        # It was read at some moment on the way there or back.
        middle, doubt = now - took // 2, took - took // 2
        ahead = database - middle
        return _Others(latest, believed, max(ahead - doubt, 0) if ahead > 0 else min(ahead + doubt, 0))

    def _judge(self, latest: Millis, ahead: int | None) -> str:
        steady = self._time.steady()
        if not self._followed(steady, ahead):
            return "system"
        if ahead is not None and abs(ahead) > APART_MS:
            return "database"
        if latest <= self._time() + APART_MS:
            self._record = None
        else:
            self._record = _standing(self._record, latest, steady, 0)
            if steady - self._record.at < _PROVEN_MS:
                return "record"
        return OK if steady >= self._proven_at else "unproven"

    def _followed(self, steady: int, ahead: int | None) -> bool:
        """Whether the system's clock goes with the process's time.

        It does if it never jumped, or if a jump that stands was followed.
        """
        apart = self._time.apart
        if abs(apart) <= APART_MS:
            self._jump = None
            return True
        self._jump = _standing(self._jump, apart, steady, APART_MS)
        wait = _ALONE_MS if ahead is None else _SECONDED_MS
        seconded = ahead is None or abs(ahead - apart) <= APART_MS
        if seconded and steady - self._jump.at >= wait:
            self._time.set(later(self._time(), apart))
            self._jump, self._proven_at = None, steady + _PROVEN_MS
        # Also if it was followed just now: what the database said was compared with the previous time.
        return False


def _standing(before: _Since | None, number: int, steady: int, play: int) -> _Since:
    """``before`` if it still stands, else ``number`` from now on."""
    return before if before is not None and abs(before.number - number) <= play else _Since(number, steady)
