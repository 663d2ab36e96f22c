"""Series of the record's index: a database that was restored goes on in a new one.

A restore loses events, and their numbers are given again, to other events.  Each event belongs to the series that began
last before it.  So whoever kept the lost ones can tell which are which.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import SeriesRow


class Series:
    """Which series an index belongs to."""

    def __init__(self, rows: Sequence[SeriesRow]) -> None:
        self._bases = [row.base for row in rows]
        self._names = [0, *(row.began_at for row in rows)]

    def of(self, index: int) -> int:
        """When the event's series began, in milliseconds; 0 for the first."""
        return self._names[bisect_right(self._bases, index)]

    def within(self, first: int, end: int) -> list[tuple[int, int]]:
        """From which index on, of those from ``first`` to before ``end``, which series holds."""
        begun = [(base, self.of(base)) for base in sorted({*self._bases}) if first < base < end]
        return [(first, self.of(first)), *begun]


async def known(session: AsyncSession) -> Series:
    """Every series of this database."""
    return Series((await session.scalars(select(SeriesRow).order_by(SeriesRow.began_at))).all())


async def latest(session: AsyncSession) -> SeriesRow | None:
    """The series that goes on; None for the first."""
    return await session.scalar(select(SeriesRow).order_by(SeriesRow.began_at.desc()).limit(1))


async def epochs(session: AsyncSession) -> list[int]:
    """When each series began, in milliseconds; 0 for the first."""
    return [0, *await session.scalars(select(SeriesRow.began_at).order_by(SeriesRow.began_at))]


async def unconfirmed(session: AsyncSession) -> bool:
    """Whether nobody has looked yet through what a restore brought back."""
    return await session.scalar(select(SeriesRow.base).where(SeriesRow.confirmed_at.is_(None)).limit(1)) is not None
