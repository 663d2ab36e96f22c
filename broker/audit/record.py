"""Write events in a transaction that holds the record's head, with dense indices.

The indices are in commit order.  The head row is locked first.  Everything that the decision relied on is compared in a
*later statement*.  Under READ COMMITTED that statement's snapshot is newer than the wait for the lock, so a revocation
that committed while this transaction waited is seen.  A single statement (a CTE) would compare against a snapshot from
before the wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, literal_column, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Event
from broker.audit.tables import EventRow, HeadRow
from broker.base.clock import Millis
from broker.base.db import table
from broker.base.statements import OnConnection, Transaction, execute_many
from broker.formats.audit_event import Committed


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an event is on the record: its dense index, id and commitment."""

    index: int
    id: str
    entry: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far the record is: the number of its events, and the latest time of one.

    The time is 0 if there is none.
    """

    size: int
    latest: Millis


_LOCK_HEAD = {
    "postgresql": "SELECT size, latest FROM audit_head WHERE id = 1 FOR UPDATE",
    "sqlite": "SELECT size, latest FROM audit_head WHERE id = 1",  # BEGIN IMMEDIATE holds the only write lock there is
}
_MOVE_HEAD = (
    update(HeadRow)
    .where(HeadRow.id == literal_column("1"))
    .values(size=bindparam("to_size"), latest=bindparam("to_latest"))
)
_INSERT_EVENTS = insert(table(EventRow))


def lock_head(transaction: Transaction) -> Head:
    """Take the head row until the transaction ends."""
    (row,) = transaction.rows(_LOCK_HEAD[transaction.dialect.name])
    return Head(*row)


async def record(session: AsyncSession, *events: Event) -> None:
    """Put events on the record in the session's own transaction.

    This is the last thing that a transaction does.
    """
    await session.flush()
    committed = [(event, event.committed()) for event in events]
    connection = await session.connection()
    await connection.run_sync(_append, committed)


def _append(connection: Connection, committed: Sequence[tuple[Event, Committed]]) -> None:
    transaction = OnConnection(connection)
    insert_events(transaction, lock_head(transaction), committed)


def insert_events(transaction: Transaction, head: Head, events: Sequence[tuple[Event, Committed]]) -> list[Receipt]:
    """Insert events behind ``head``, which the caller holds, and move it."""
    rows = [_row(head.size + offset, event, committed) for offset, (event, committed) in enumerate(events)]
    execute_many(transaction, _INSERT_EVENTS, rows)
    latest = max(head.latest, *(event.time for event, _ in events))
    execute_many(transaction, _MOVE_HEAD, [{"to_size": head.size + len(rows), "to_latest": latest}])
    return [Receipt(row["idx"], row["id"], row["entry"]) for row in rows]


def _row(index: int, event: Event, committed: Committed) -> Mapping[str, Any]:
    return {
        "idx": index,
        "id": event.id,
        "time": event.time,
        "kind": event.kind,
        "decision": event.decision,
        "organization_id": event.organization,
        "actor_id": event.actor.id,
        "credential_id": event.credential,
        "lease_id": event.lease,
        "core": committed.core,
        "personal": committed.personal,
        "salt_core": committed.salt_core,
        "salt_personal": committed.salt_personal,
        "entry": committed.entry,
    }
