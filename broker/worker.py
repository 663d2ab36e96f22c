"""Periodic work: one process at a time does the rooms' duties, each in a loop of its own.

So a slow upstream holds up the duties that wait for it, and no other.  They share a few connections of the database,
which are none of those that requests have.

Work that can't be undone rests while the time isn't believed (:mod:`broker.audit.timekeeping`), and after a restore
until somebody has confirmed what it brought back.  Each duty says which kind it is.  Notices go on: what is sent was
decided earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog
from structlog.contextvars import bound_contextvars

from broker.audit.series import unconfirmed
from broker.audit.timekeeping import OK, Timekeeping
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Duty
from broker.base.election import Election
from broker.parts import Parts

_log = structlog.get_logger()

# Between a duty's end and its next turn.
REST_S = 5.0
# How soon another process takes over from one that died.
STAND_BY_S = 1.0
# How often notices are looked for.
_NOTIFY_S = 1.0
# How often it is asked whether this process still leads and what has to rest, and how long the answer may take.
LOOK_S = 5.0
_ANSWER_S = 5.0
# So many transactions of periodic work at once: each that records an event holds up the record for a moment.
_AT_ONCE: Final = 4
# A backlog makes a statement slower, and never impossible; a duty ends some time all the same, whatever it waits for.
_STATEMENT_S: Final = 3_600.0
DUTY_S = 7_200.0


def parts_of_worker(parts: Parts) -> Parts:
    """What the duties are made of: the same parts, with connections that requests don't have."""
    return replace(parts, db=parts.db.beside(_AT_ONCE, longest_s=_STATEMENT_S))


class Worker:
    """The work of one process at a time; every duty is safe to do on several at once.

    ``db`` is the duties' own database, ``notices`` the duty that sends them.
    """

    def __init__(
        self,
        parts: Parts,
        db: Database,
        timekeeping: Timekeeping,
        election: Election,
        duties: Sequence[Duty],
        notices: Duty,
    ) -> None:
        self._db, self._audit, self._clock = parts.db, parts.audit, parts.clock
        self.db = db
        self._timekeeping = timekeeping
        self.election = election
        self._notices = notices
        self.duties = {duty.name: duty for duty in (*duties, notices)}
        assert len(self.duties) == len(duties) + 1, "one of two duties with one name would never be done"
        self._leads, self._rests = False, True
        self._turns: dict[str, Millis] = {}

    @property
    def round_at(self) -> int:
        """Since when every duty had its turn; 0 before that.

        A duty that doesn't end shows here.
        """
        return min(self._turns.values()) if len(self._turns) == len(self.duties) else 0

    async def run(self) -> None:
        """Work until cancelled, while no other process does.

        A fault in one duty is tried again next time.
        """
        loops = [
            asyncio.create_task(self._repeat(duty, _NOTIFY_S if duty is self._notices else REST_S), name=duty.name)
            for duty in self.duties.values()
        ]
        try:
            while True:
                await self._look()
                await asyncio.sleep(LOOK_S if self._leads else STAND_BY_S)
        finally:
            for each in loops:
                each.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            self.election.leave()

    async def once(self) -> None:
        """Every duty, once."""
        self._rests = await self._must_rest()
        for duty in self.duties.values():
            await self._turn(duty)

    async def _look(self) -> None:
        """See whether this process leads, and what has to rest then."""
        leads = self._audit.closed is None and await self.election.holds()
        self._rests = not leads or await self._must_rest()
        self._leads = leads

    async def _repeat(self, duty: Duty, rest_s: float) -> None:
        while True:
            if self._leads and self._audit.closed is None:
                await self._turn(duty)
                await asyncio.sleep(rest_s)
            else:
                duty.stand_by()
                await asyncio.sleep(min(rest_s, STAND_BY_S))

    async def _turn(self, duty: Duty) -> None:
        # Whether the time is believed is heeded at once: others than the worker look at that, too.
        if not duty.final or (not self._rests and self._timekeeping.state == OK):
            await self._try(duty)
        self._turns[duty.name] = self._clock()

    async def _try(self, duty: Duty) -> None:
        with bound_contextvars(piece=duty.name):
            try:
                async with asyncio.timeout(DUTY_S):
                    await duty.do(self._clock())
            except Exception:  # noqa: BLE001 - its next turn, and the other duties, must still come
                _log.exception("worker.failed")

    async def _must_rest(self) -> bool:
        """Whether work that can't be undone has to wait.

        It waits for the right time, or until people have seen what a restore brought back.
        """
        try:
            async with asyncio.timeout(_ANSWER_S):
                if await self._timekeeping.look() != OK:
                    return True
                async with self._db.read(EVERY_TENANT) as session:
                    return await unconfirmed(session)
        except Exception:  # noqa: BLE001 - who can't tell leaves it; the others must still run
            _log.exception("worker.failed")
            return True
