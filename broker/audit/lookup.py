"""Find events by the search's index (:mod:`broker.audit.places`), newest or oldest first.

The record is walked window by window, each of so many blocks as bring few thousand rows.  Of several fields, the one
that came least in the window before says which blocks of the next one are looked at.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, ColumnElement, Select, any_, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.audit import places
from broker.audit.tables import BlockRow, HeadRow, PlacesRow
from broker.base.clock import Millis

# Blocks of the first window: most pages are full by then.
FIRST = 8
# With fewer rows a window is made larger, with more it is made smaller.
FEW, MANY = 2_048, 8_192
# Blocks are asked for one by one if they are fewer than one of so many: each is looked for under each term.
_SINGLY = 8

Terms = frozenset[int]


@dataclass(frozen=True, slots=True)
class Sought:
    """What events are to have: one of the terms of each field, and none of ``without``.

    Their times are as in a filter, and so is the index after which to begin.
    """

    fields: tuple[Terms, ...]
    without: Terms
    since: Millis | None
    until: Millis | None
    after: int | None
    newest: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """``blocks`` may hold what is sought; ``rest`` are the indices of events in no block yet."""

    blocks: range
    rest: range


async def extent(session: AsyncSession, sought: Sought) -> Extent:
    """Where to look."""
    last = await session.scalar(select(func.max(BlockRow.block)))
    size = await session.scalar(select(HeadRow.size)) or 0
    end = -1 if last is None else last  # the last block of the index
    begin, stop = 0, size
    if sought.after is not None:
        begin, stop = (0, min(size, sought.after)) if sought.newest else (sought.after + 1, size)
    rest = range(max(begin, (end + 1) * places.BLOCK), stop)
    within = select(func.coalesce(func.min(BlockRow.block), 0), func.coalesce(func.max(BlockRow.block), -1))
    low, high = (await session.execute(within.where(*_times(sought), BlockRow.block <= end))).one()
    return Extent(range(max(low, begin // places.BLOCK), min(high + 1, -(-stop // places.BLOCK))), rest)


async def of_times(session: AsyncSession, sought: Sought, blocks: range) -> Sequence[int]:
    """Those of the blocks that have events of the times sought, in order."""
    order = BlockRow.block.desc() if sought.newest else BlockRow.block
    query = select(BlockRow.block).where(_within(BlockRow.block, blocks), *_times(sought)).order_by(order)
    return (await session.scalars(query)).all()


async def candidates(session: AsyncSession, sought: Sought, blocks: range) -> AsyncIterator[int]:
    """The indices of what may be sought, in order.

    Terms may be another value's, and times are those of blocks.
    """
    windows, rarest = _Windows(blocks, newest=sought.newest), None
    for window in windows:
        some = await _looked_at(session, sought, window, rarest)
        if not some:
            windows.had(0)
            continue
        bits, counts = await _bits(session, sought, some)
        windows.had(len(some) + sum(counts))
        if len(counts) > 1:
            rarest = sought.fields[counts.index(min(counts))]
        for block in sorted(bits, reverse=sought.newest):
            for place in places.each(_beyond(sought, block, bits[block]), newest=sought.newest):
                yield block * places.BLOCK + place


class _Windows:
    """Cuts blocks into windows, in order.

    They grow while they bring few rows, and shrink when they bring many.
    """

    def __init__(self, blocks: range, *, newest: bool) -> None:
        self._left, self._newest = blocks, newest
        self._width = FIRST

    def __iter__(self) -> Iterator[range]:
        while self._left:
            at = -self._width if self._newest else self._width
            window, self._left = (
                (self._left[at:], self._left[:at]) if self._newest else (self._left[:at], self._left[at:])
            )
            yield window

    def had(self, rows: int) -> None:
        """Take note of how many rows the last one brought."""
        if rows < FEW:
            self._width *= 4
        elif rows > MANY:
            self._width = max(1, self._width // 4)


async def _looked_at(session: AsyncSession, sought: Sought, window: range, rarest: Terms | None) -> Sequence[int]:
    """The blocks of a window that have events of these times.

    If ``rarest`` is given, they have one of these terms, too.
    """
    blocks: Sequence[int] = window
    if sought.since is not None or sought.until is not None:
        blocks = sorted(await of_times(session, sought, window))
    if rarest is not None and blocks:
        having = _places(session, rarest, blocks).with_only_columns(PlacesRow.block).distinct()
        blocks = sorted({*blocks}.intersection(await session.scalars(having)))
    return blocks


async def _bits(session: AsyncSession, sought: Sought, blocks: Sequence[int]) -> tuple[dict[int, int], list[int]]:
    """The places in each block, as bits, and how many rows each field had."""
    every = (1 << places.BLOCK) - 1
    counts = [0] * len(sought.fields)
    terms = sought.without.union(*sought.fields)
    found: list[dict[int, int]] = [{} for _ in sought.fields]
    bits = dict.fromkeys(blocks, every)
    if not terms:
        return bits, counts
    for term, block, packed in await session.execute(_places(session, terms, blocks)):
        if block not in bits:
            continue
        some = places.unpack(packed)
        if term in sought.without:
            bits[block] &= ~some
        for number, field in enumerate(sought.fields):
            if term in field:
                counts[number] += 1
                found[number][block] = found[number].get(block, 0) | some
    for having in found:
        bits = {block: both for block in having if (both := bits.get(block, 0) & having[block])}
    return bits, counts


def _places(session: AsyncSession, terms: Terms, blocks: Sequence[int]) -> Select[int, int, bytes]:
    """Rows of these terms and blocks, and perhaps of blocks between them."""
    between = range(blocks[0], blocks[-1] + 1)
    where = _within(PlacesRow.block, between)
    if len(blocks) * _SINGLY < len(between):
        where = among(session, PlacesRow.block, blocks)
    spans = sorted({places.span(block) for block in blocks})
    return select(PlacesRow.term, PlacesRow.block, PlacesRow.places).where(
        among(session, PlacesRow.span, spans), among(session, PlacesRow.term, sorted(terms)), where
    )


def _beyond(sought: Sought, block: int, bits: int) -> int:
    """The places that are beyond the index after which to begin."""
    if sought.after is None:
        return bits
    start = sought.after - block * places.BLOCK
    if sought.newest:
        return bits & ((1 << max(0, start)) - 1)
    return bits & (-1 << max(0, start + 1))


def _times(sought: Sought) -> list[ColumnElement[bool]]:
    """What is true of a block that holds an event of these times."""
    conditions = []
    if sought.since is not None:
        conditions.append(BlockRow.latest >= sought.since)
    if sought.until is not None:
        conditions.append(BlockRow.earliest < sought.until)
    return conditions


def _within(column: InstrumentedAttribute[int], numbers: range) -> ColumnElement[bool]:
    return column.between(numbers.start, numbers.stop - 1)


def among(session: AsyncSession, column: InstrumentedAttribute[int], numbers: Sequence[int]) -> ColumnElement[bool]:
    """That a column is one of these numbers, as one parameter, however many there are."""
    if session.get_bind().dialect.name == "postgresql":
        return column == any_(literal(list(numbers), ARRAY(column.type)))
    return column.in_(select(func.json_each(json.dumps(list(numbers))).table_valued("value").c.value))
