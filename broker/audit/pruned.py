"""Which events were pruned by policy, so that they aren't taken for lost.

What is kept of them is here, and in the log: their entries.  An event that is neither here nor in the record was
taken out by somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.audit import places
from broker.audit.tables import BlockRow, CursorRow, PrunedRow
from broker.base.clock import Millis
from broker.base.db import upsert

_OWN: Final = "prune/"


@dataclass(frozen=True, slots=True)
class Gone:
    """Between these indices some events were pruned, ``end`` excluded."""

    first: int
    end: int


async def cursor(session: AsyncSession, name: str) -> CursorRow:
    """How far events of a class were pruned.

    Nobody else prunes that class until the transaction ends.
    """
    fresh = {"name": _OWN + name, "next": 0}
    await session.execute(upsert(session, CursorRow).values(fresh).on_conflict_do_nothing())
    return await session.get_one(CursorRow, _OWN + name, with_for_update=True)


def is_own(name: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Whether a cursor is such a one, and nobody's who follows the record."""
    return name.startswith(_OWN)


async def note(session: AsyncSession, block: int, indices: Sequence[int]) -> None:
    """Take note of events that are pruned in this transaction."""
    row = await session.get(PrunedRow, block, with_for_update=True)
    known = set() if row is None else {*places.each(places.unpack(row.places), newest=False)}
    packed = places.pack(known.union(index % places.BLOCK for index in indices))
    if row is None:
        session.add(PrunedRow(block=block, places=packed))
    else:
        row.places = packed


async def within(session: AsyncSession, first: int, end: int) -> set[int]:
    """The indices of pruned events from ``first`` to before ``end``."""
    blocks = (PrunedRow.block >= first // places.BLOCK, PrunedRow.block * places.BLOCK < end)
    found: set[int] = set()
    for row in await session.scalars(select(PrunedRow).where(*blocks)):
        start = row.block * places.BLOCK
        found.update(start + place for place in places.each(places.unpack(row.places), newest=False))
    return {index for index in found if first <= index < end}


async def between(
    session: AsyncSession, since: Millis | None = None, until: Millis | None = None, after: int | None = None
) -> Gone | None:
    """Where events behind the index ``after``, and of such times, may have been pruned.

    None if none were.
    """
    query = select(func.min(PrunedRow.block), func.max(PrunedRow.block))
    if since is not None or until is not None:
        query = query.join(BlockRow, BlockRow.block == PrunedRow.block)
    if since is not None:
        query = query.where(BlockRow.latest >= since)
    if until is not None:
        query = query.where(BlockRow.earliest < until)
    if after is not None:
        query = query.where(PrunedRow.block >= (after + 1) // places.BLOCK)
    low, high = (await session.execute(query)).one()
    return None if low is None else Gone(low * places.BLOCK, (high + 1) * places.BLOCK)


async def any_of(session: AsyncSession, name: str, since: Millis) -> bool:
    """Whether events of a class, in a block with events since ``since``, may have been pruned."""
    next_ = await session.scalar(select(CursorRow.next).where(CursorRow.name == _OWN + name))
    if next_ is None:
        return False
    some = select(PrunedRow.block).join(BlockRow, BlockRow.block == PrunedRow.block)
    some = some.where(PrunedRow.block <= next_ // places.BLOCK, BlockRow.latest >= since)
    return await session.scalar(some.limit(1)) is not None
