"""How far each sink has come: the index of the first event that it doesn't have.

A cursor moves once a sink has taken what is before it, and never back.  So a sink has every event at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import archives
from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.audit.tables import CursorRow
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database, upsert

_PREFIX: Final = "sink:"


async def begin(db: Database, sink: str, form: str, now: Millis) -> int:
    """Where a sink goes on.

    A new one begins with the first event that is here, and that it does is on the record.
    """
    async with db.write(EVERY_TENANT) as session:
        found = await session.scalar(select(CursorRow.next).where(CursorRow.name == _PREFIX + sink))
        if found is not None:
            return found
        first = await archives.first_here(session)
        new = upsert(session, CursorRow).values(name=_PREFIX + sink, next=first).on_conflict_do_nothing()
        if (await session.execute(new.returning(CursorRow.name))).first() is not None:
            reason = f"format={form},sink={sink},from={first}"
            await record(session, Event(kind="audit.exported", time=now, actor=BROKER, reason=reason))
    return first


async def move(db: Database, sink: str, following: int) -> None:
    """A sink has everything before ``following``."""
    async with db.write(EVERY_TENANT) as session:
        here = (CursorRow.name == _PREFIX + sink, CursorRow.next < following)
        await session.execute(update(CursorRow).where(*here).values(next=following))


async def forget_others(db: Database, sinks: Collection[str]) -> None:
    """Forget sinks that are declared no more.  One that is declared again gets everything again."""
    async with db.write(EVERY_TENANT) as session:
        known = await session.scalars(select(CursorRow.name).where(CursorRow.name.startswith(_PREFIX)))
        for gone in {*known} - {_PREFIX + sink for sink in sinks}:
            await session.execute(delete(CursorRow).where(CursorRow.name == gone))


async def behind(session: AsyncSession, end: int) -> Sequence[str]:
    """The sinks that don't have all events before ``end`` yet."""
    late = select(CursorRow.name).where(CursorRow.name.startswith(_PREFIX), CursorRow.next < end)
    return [name.removeprefix(_PREFIX) for name in await session.scalars(late.order_by(CursorRow.name))]


async def places(session: AsyncSession) -> Mapping[str, int]:
    """The index of the first event that each sink doesn't have, by its name."""
    row = CursorRow
    query = select(row.name, row.next).where(row.name.startswith(_PREFIX)).order_by(row.name)
    return {name.removeprefix(_PREFIX): following for name, following in await session.execute(query)}
