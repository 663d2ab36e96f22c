"""Keep the search's index (:mod:`broker.audit.places`).

A duty follows the record, a full block at a time.  Nothing is written for it where events are.  What is in no block
yet, a search reads itself.  The index is no evidence: if both its tables are emptied, it is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Connection, Integer, LargeBinary, Row, Select, delete, func, insert, literal, select
from sqlalchemy import type_coerce as as_type
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import places
from broker.audit.inside import inside
from broker.audit.places import Indexed
from broker.audit.tables import BlockRow, EventRow, HeadRow, PlacesRow
from broker.base.db import EVERY_TENANT, Database, table, upsert
from broker.base.statements import OnConnection, compiled
from broker.formats.packed_core import unpack

# Blocks of one turn; the rest has the next one.
TURN = 16
# Events read at once, so that others have their turn in between.
PAGE = 1_024
# Rows forgotten at once.
FORGOTTEN = 5_000

_COLUMNS = (
    EventRow.idx,
    EventRow.time,
    EventRow.organization_id,
    EventRow.actor_id,
    EventRow.credential_id,
    EventRow.lease_id,
    EventRow.kind,
    EventRow.decision,
    as_type(EventRow.core, LargeBinary),
)
_PLACES = ("span", "term", "block", "places")
_INSERT_PLACES = insert(table(PlacesRow))


async def follow(db: Database) -> None:
    """Index the blocks that were filled since, as many as one turn may.

    Several may do so at once.
    """
    for _ in range(TURN):
        async with db.read(EVERY_TENANT) as session:
            block = await _next(session)
        if block is None:
            return
        events = await _events(db, block)
        # In a thread, as there may be thousands of different values.
        found = await asyncio.to_thread(places.places_of, events)
        await _keep(db, block, events, found)


async def forget(db: Database, before: int) -> None:
    """Forget what is known of events before an index, as these are no longer here.

    Spans that begin before it and end after it stay whole.
    """
    kept = places.span(before // places.BLOCK)
    while True:
        async with db.write(EVERY_TENANT) as session:
            first = (PlacesRow.span, PlacesRow.term)
            query = select(*first).where(PlacesRow.span < kept).order_by(*first).limit(FORGOTTEN)
            some = (await session.execute(query)).all()
            if not some:
                await session.execute(delete(BlockRow).where(BlockRow.block < kept * places.SPAN))
                return
            span = some[0][0]
            last = max(term for at, term in some if at == span)
            await session.execute(delete(PlacesRow).where(PlacesRow.span == span, PlacesRow.term <= last))


async def _next(session: AsyncSession) -> int | None:
    """The block that comes next; None while it isn't full."""
    last = await session.scalar(select(func.max(BlockRow.block)))
    block = (await session.scalar(select(func.min(EventRow.idx))) or 0) // places.BLOCK if last is None else last + 1
    size = await session.scalar(select(HeadRow.size)) or 0
    return block if size >= (block + 1) * places.BLOCK else None


async def _events(db: Database, block: int) -> Sequence[Indexed]:
    events: list[Indexed] = []
    start, stop = block * places.BLOCK, (block + 1) * places.BLOCK
    for at in range(start, stop, PAGE):
        query = select(*_COLUMNS).where(EventRow.idx >= at, EventRow.idx < min(at + PAGE, stop))
        async with db.read(EVERY_TENANT) as session:
            rows = (await session.execute(query)).all()
        # In a thread, as each core is unpacked.
        events += await asyncio.to_thread(_indexed, rows)
    return events


def _indexed(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[Indexed]:
    return [Indexed._make((*row[:-1], *inside(unpack(row[-1])))) for row in rows]


async def _keep(db: Database, block: int, events: Sequence[Indexed], found: Mapping[int, bytes]) -> None:
    times = [event.time for event in events] or [0]  # a block may be archived before it is indexed
    row = {"block": block, "earliest": min(times), "latest": max(times)}
    async with db.write(EVERY_TENANT) as session:
        mine = upsert(session, BlockRow).values(row).on_conflict_do_nothing().returning(BlockRow.block)
        if (await session.execute(mine)).first() is None:  # another process was faster
            return
        terms = sorted(found)
        packed = [found[term] for term in terms]
        if not terms:
            return
        if db.dialect == "postgresql":
            await session.execute(insert(PlacesRow).from_select(_PLACES, _unnested(block, terms, packed)))
        else:
            span = places.span(block)
            rows = [(span, term, block, some) for term, some in zip(terms, packed, strict=True)]
            await (await session.connection()).run_sync(_insert, rows)


def _unnested(block: int, terms: Sequence[int], packed: Sequence[bytes]) -> Select[int, int, int, bytes]:
    """The rows of a block, of two parameters, however many there are."""
    return select(
        literal(places.span(block), Integer),
        func.unnest(literal(terms, ARRAY(Integer))),
        literal(block, Integer),
        func.unnest(literal(packed, ARRAY(LargeBinary))),
    )


def _insert(connection: Connection, rows: Sequence[tuple[int, int, int, bytes]]) -> None:
    """SQLAlchemy's own way would take ten times as long, as there are thousands."""
    transaction = OnConnection(connection)
    transaction.many(compiled(transaction.dialect, _INSERT_PLACES, _PLACES).sql, rows)
