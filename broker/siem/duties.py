"""Push the record to sinks: a duty for each, so that one that is away holds up no other.

A batch is read by index, sent, and only then is the cursor moved: a process that ends in between sends it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
from sqlalchemy import select

from broker.audit.search import Filter, search
from broker.audit.tables import HeadRow
from broker.base.clock import Clock, Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Counts, Duty
from broker.base.outbound import Outbound
from broker.notifications.notices import notify
from broker.notifications.tables import NoticeRow
from broker.siem import cursors
from broker.siem.export import PAGE, Exporter
from broker.siem.senders import NotTaken, Sender, sender_of
from broker.siem.sinks import Sink

_log = structlog.get_logger()

# Batches of one turn; the next goes on.
_TURN: Final = 200
# Between tries of a sink that is away, by how many failed.
_WAIT_MS: Final = (0, 5_000, 15_000, 60_000)
# A sink is told of once it takes nothing and its next event is so old.
TOLD_AFTER_MS: Final = 3_600_000
_TRY_S: Final = 90.0
_FORGET_EVERY_MS: Final = 3_600_000


def duties(
    db: Database, clock: Clock, exporter: Exporter, outbound: Outbound, sinks: Sequence[Sink]
) -> tuple[Duty, ...]:
    """The sinks' duties, and the one that forgets those which are declared no more."""
    names = [sink.name for sink in sinks]
    forget = Duty("forget_sinks", partial(cursors.forget_others, db, names), every=_FORGET_EVERY_MS)
    pushing = [Pushing(db, clock, exporter, sink, sender_of(sink, outbound, clock)) for sink in sinks]
    return (forget, *(Duty(f"sink_{each.name}", each.go_on) for each in pushing))


class Pushing:
    """One sink's way through the record."""

    def __init__(self, db: Database, clock: Clock, exporter: Exporter, sink: Sink, sender: Sender) -> None:
        self.name = sink.name
        self._db, self._clock, self._exporter = db, clock, exporter
        self._form, self._sender = sink.format, sender
        self._failed = 0
        self._try_at = 0
        # Whether somebody may have been told of trouble that is over now: at first nobody knows.
        self._troubled = True

    async def go_on(self) -> Counts:
        """Push what the sink lacks, as much as one turn may; returns how far it is behind."""
        following = await cursors.begin(self._db, self.name, self._form, self._clock())
        if self._clock() >= self._try_at:
            for _ in range(_TURN):
                reached = await self._batch(following)
                if reached == following:
                    break
                following = reached
        return await self._behind(following)

    async def _batch(self, first: int) -> int:
        """Push the events from ``first`` on; returns the first that the sink doesn't have."""
        page = await search(self._db, EVERY_TENANT, Filter(after=first - 1), PAGE)
        if not page:
            return first
        if page[0].index != first:
            raise RuntimeError(f"an event is missing at {first}")
        lines = self._exporter.lines(self._form, page)
        if mark := await self._exporter.checkpoint(self._form):
            lines.append(mark.removesuffix(b"\n"))
        try:
            async with asyncio.timeout(_TRY_S):
                await self._sender.send(lines)
        except (NotTaken, TimeoutError) as fault:
            await self._not_taken(first, page[0].core["time"], str(fault) or "it took too long")
            return first
        following = page[-1].index + 1
        await cursors.move(self._db, self.name, following)
        await self._taken(first)
        return following

    async def _not_taken(self, first: int, since: Millis, why: str) -> None:
        now = self._clock()
        self._try_at = now + _WAIT_MS[min(self._failed, len(_WAIT_MS) - 1)]
        self._failed += 1
        self._troubled = True
        _log.warning("sink.not_taken", sink=self.name, why=why)
        if now - since >= TOLD_AFTER_MS:
            async with self._db.write(EVERY_TENANT) as session:
                facts = {"sink": self.name, "why": why}
                dedup = f"sink_behind:{self.name}:{first}"
                await notify(session, "sink_behind", organization="", provider="", now=now, dedup=dedup, facts=facts)

    async def _taken(self, first: int) -> None:
        self._failed = self._try_at = 0
        if not self._troubled:
            return
        async with self._db.write(EVERY_TENANT) as session:
            told = select(NoticeRow.id).where(
                NoticeRow.organization_id == "", NoticeRow.dedup == f"sink_behind:{self.name}:{first}"
            )
            if await session.scalar(told) is not None:
                facts = {"sink": self.name}
                dedup = f"sink_well:{self.name}:{first}"
                now = self._clock()
                await notify(session, "sink_well", organization="", provider="", now=now, dedup=dedup, facts=facts)
        self._troubled = False

    async def _behind(self, following: int) -> Counts:
        """How many events it lacks, and for how many seconds the oldest of them is there."""
        async with self._db.read(EVERY_TENANT) as session:
            size = await session.scalar(select(HeadRow.size)) or 0
        oldest = await search(self._db, EVERY_TENANT, Filter(after=following - 1), 1) if following < size else []
        seconds = max(0, self._clock() - oldest[0].core["time"]) / 1000 if oldest else 0
        return {(self.name, "events"): float(size - following), (self.name, "seconds"): seconds}
