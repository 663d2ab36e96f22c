"""Write events in a transaction that holds the record's head, with dense indices.

The indices are in commit order.  The head row is locked first.  Everything that the decision relied on is compared in a
*later statement*.  Under READ COMMITTED that statement's snapshot is newer than the wait for the lock, so a revocation
that committed while this transaction waited is seen.  A single statement (a CTE) would compare against a snapshot from
before the wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, literal_column, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.batch import EventValues, values_of
from broker.audit.events import Event
from broker.audit.head import Head, lock_head
from broker.audit.months import month_of
from broker.audit.subjects import SubjectKeys, Whose, subjects_of
from broker.audit.tables import EventRow, HeadRow
from broker.base.db import table
from broker.base.statements import OnConnection, Transaction, execute_many
from broker.formats.audit_event import Committed

_MOVE_HEAD = (
    update(HeadRow)
    .where(HeadRow.id == literal_column("1"))
    .values(size=bindparam("to_size"), latest=bindparam("to_latest"), month=bindparam("to_month"))
)
_INSERT_EVENTS = insert(table(EventRow))


async def record(session: AsyncSession, *events: Event) -> None:
    """Put events on the record in the session's own transaction.

    This is the last thing that a transaction does.
    """
    await session.flush()
    made = [(event, event.committed()) for event in events]
    connection = await session.connection()
    await connection.run_sync(_append, made, subjects_of(session))


def _append(connection: Connection, made: Sequence[tuple[Event, Committed]], subjects: SubjectKeys) -> None:
    transaction = OnConnection(connection)
    head = lock_head(transaction)
    keys = subjects.for_transaction(transaction, [Whose.of(event) for event, _ in made])
    insert_events(transaction, head, [values_of(*each, keys[Whose.of(each[0])]) for each in made])


def insert_events(transaction: Transaction, head: Head, rows: Sequence[EventValues]) -> None:
    """Insert events behind ``head``, which the caller holds, and move it."""
    latest = max(head.latest, *[row.time for row in rows])
    month = max(head.month, month_of(latest)) if transaction.dialect.name == "sqlite" else head.month
    placed = [{"idx": head.size + offset, "month": month, **row._asdict()} for offset, row in enumerate(rows)]
    execute_many(transaction, _INSERT_EVENTS, placed)
    moved = {"to_size": head.size + len(rows), "to_latest": latest, "to_month": month}
    execute_many(transaction, _MOVE_HEAD, [moved])
