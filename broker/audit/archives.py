"""What of the record is in archives, and what is still here.

Months go from the oldest on, and never the one that the head is in.  So what is here is a range of indices that ends
with the last event, and the last event is always here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import ArchiveRow, EventRow, HeadRow
from broker.base.clock import Millis


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Archived months (``2026-07``) that may hold what was asked for.

    ``first`` is the first index that is here.
    """

    first: int
    months: Sequence[str]


async def any_is(session: AsyncSession) -> bool:
    """Whether any month is archived."""
    return await session.scalar(select(ArchiveRow.month).limit(1)) is not None


async def holds(session: AsyncSession, index: int) -> bool:
    """Whether the event with this index is in an archived month."""
    row = ArchiveRow
    there = select(row.month).where(row.first <= index, row.first + row.count > index).limit(1)
    return await session.scalar(there) is not None


async def elsewhere(
    session: AsyncSession, since: Millis | None = None, until: Millis | None = None, after: int | None = None
) -> Elsewhere | None:
    """The archived months with events behind the index ``after``, and of such times.

    Times are from ``since`` on and before ``until``.  None if there are none.
    """
    query = select(ArchiveRow).order_by(ArchiveRow.month)
    if since is not None:
        query = query.where(ArchiveRow.latest >= since)
    if until is not None:
        query = query.where(ArchiveRow.earliest < until)
    if after is not None:
        query = query.where(ArchiveRow.first + ArchiveRow.count > after + 1)
    months = [named(row.month) for row in await session.scalars(query)]
    return Elsewhere(await first_here(session), months) if months else None


async def first_here(session: AsyncSession) -> int:
    """The index behind all archived months."""
    return await session.scalar(select(func.max(ArchiveRow.first + ArchiveRow.count))) or 0


async def oldest(session: AsyncSession) -> int | None:
    """The month of the first event that no archive has; None if there is no event."""
    after = await first_here(session)
    month: int | None = await session.scalar(
        select(EventRow.month).where(EventRow.idx >= after).order_by(EventRow.idx).limit(1)
    )
    return month


async def end_of(session: AsyncSession, month: int) -> int | None:
    """The index behind the events of the oldest month here; None if it isn't over.

    Months follow each other as indices do, so it is found by halves.
    """
    low = await first_here(session)
    size, present = (await session.execute(select(HeadRow.size, HeadRow.month))).one()
    if present <= month:
        return None
    high = size
    while low < high:
        middle = (low + high) // 2
        # Of a pruned event nobody knows the month; it is taken for one of the month before the next event's.
        later = select(EventRow.month).where(EventRow.idx >= middle).order_by(EventRow.idx).limit(1)
        found = await session.scalar(later)
        if found is not None and found > month:
            high = middle
        else:
            low = middle + 1
    return low


def named(month: int) -> str:
    """The month as people write it: 2026-07."""
    return f"{month // 100:04}-{month % 100:02}"
