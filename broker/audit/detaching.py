"""Take a month out of the record, once an archive has it.

Nothing else can delete what was recorded.  On PostgreSQL a month is a partition, which is detached while appends and
searches go on, and then dropped.  Only who owns the schema can.  On SQLite events go by pages, between which others
write.  Either is done to its end by whoever comes next, if a process ends amid it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import text

from broker.audit.archives import first_here, oldest
from broker.audit.tables import ArchiveRow
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Conflict
from broker.base.statements import Transaction

# What searches and appends may take that are under way, as a partition waits for them.
LONGEST_S: Final = 600.0
PAGE: Final = 2_000
# Other processes on the file ask for their turn again and again; so long there is a gap for them.
_REST_S: Final = 0.02

_OWNED = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'audit_events'::regclass")
_MONTHS = text(
    "SELECT right(relname, 6)::int FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' "
    "AND relname ~ '^audit_events_[0-9]{6}$' ORDER BY relname"
)
_PENDING: Final = (
    "SELECT inhdetachpending FROM pg_inherits WHERE inhparent = 'audit_events'::regclass AND inhrelid = to_regclass($1)"
)
_FIRST: Final = "SELECT min(idx) FROM audit_events"
# The trigger that refuses deletes, as the first migration made it.
_TRIGGER: Final = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'audit_events_no_delete'"
_OPEN: Final = "DROP TRIGGER audit_events_no_delete"
_DELETE: Final = "DELETE FROM audit_events WHERE idx >= ? AND idx < ?"


async def may(db: Database) -> bool:
    """Whether the role of this database's address may take months away."""
    if db.dialect != "postgresql":
        return True
    async with db.read(EVERY_TENANT) as session:
        return bool(await session.scalar(_OWNED))


async def left(db: Database, before: int) -> Sequence[int]:
    """Months before ``before`` that hold nothing which isn't archived, and are still here.

    They were begun to be taken out, or no event ever came.
    """
    async with db.read(EVERY_TENANT) as session:
        here = await oldest(session)
        if here is None:
            return ()
        if db.dialect == "postgresql":
            return [month for month in await session.scalars(_MONTHS) if month < min(here, before)]
        first = await session.scalar(text(_FIRST))
        last = await session.scalar(text("SELECT max(month) FROM audit_archives"))
        return [last] if last is not None and last < before and first < await first_here(session) else ()


async def take_out(db: Database, month: int, advance: Callable[[int, int], None]) -> None:
    """Take a month out that is archived, or empty.

    ``advance`` is told how many events are gone, and of how many.

    Raises:
        Conflict: on PostgreSQL, somebody who began before holds it for too long.
    """
    if db.dialect == "postgresql":
        await _drop(db, f"audit_events_{month}")
        return
    async with db.read(EVERY_TENANT) as session:
        row = await session.get_one(ArchiveRow, month)
    end = row.first + row.count
    while (at := await db.transact(lambda transaction: _delete_page(transaction, end), record=False)) < end:
        advance(at - row.first, row.count)
        await asyncio.sleep(_REST_S)


async def _drop(db: Database, name: str) -> None:
    connection = await db.dedicated("archiving", longest_s=LONGEST_S)
    try:
        pending = await connection.fetchval(_PENDING, name)
        if pending is not None:
            how = "FINALIZE" if pending else "CONCURRENTLY"
            await connection.execute(f"ALTER TABLE audit_events DETACH PARTITION {name} {how}")
        await connection.execute(f"DROP TABLE IF EXISTS {name}")
    except TimeoutError:
        raise Conflict(
            f"{name}: its archive is there, but something that began before, such as a dump, holds the month in the "
            "database. Run this again once that has ended."
        ) from None
    finally:
        await connection.close(timeout=5)


def _delete_page(transaction: Transaction, end: int) -> int:
    """Delete the oldest events before ``end``; returns the index of the next one."""
    ((first,),) = transaction.rows(_FIRST)
    if first is None or first >= end:
        return end
    to = int(min(first + PAGE, end))
    ((trigger,),) = transaction.rows(_TRIGGER)
    transaction.rows(_OPEN)
    transaction.rows(_DELETE, (first, to))
    transaction.rows(trigger)
    return to
