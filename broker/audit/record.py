"""Write events inside a transaction that holds the record's head: dense indices in commit order.

The head row is locked first, and everything the decision relied on is compared in a *later statement*: under READ
COMMITTED its snapshot then is newer than the wait for the lock, so a revocation that committed while this transaction
waited is seen.  A single statement (a CTE) would compare against a snapshot from before the wait.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, literal_column, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Event
from broker.audit.tables import EventRow, GuardRow, HeadRow
from broker.base.db import UPSERTS, table
from broker.base.statements import OnConnection, Transaction, execute_many, present
from broker.formats.audit_event import Committed


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an event is on the record: its dense index, id and commitment."""

    index: int
    id: str
    entry: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far the record is: the number of its events, and the latest time of one (0 without any)."""

    size: int
    latest: int


# Text in the dialect's own words where SQLAlchemy would render it anew for every batch (an IN list of any length).
_LOCK_HEAD = {
    "postgresql": "SELECT size, latest FROM audit_head WHERE id = 1 FOR UPDATE",
    "sqlite": "SELECT size, latest FROM audit_head WHERE id = 1",  # BEGIN IMMEDIATE holds the only write lock there is
}
_EPOCHS = {
    "postgresql": "SELECT id, epoch FROM guards WHERE id = ANY($1::varchar[])",
    "sqlite": "SELECT id, epoch FROM guards WHERE id IN (SELECT value FROM json_each(?))",
}
_MOVE_HEAD = (
    update(HeadRow)
    .where(HeadRow.id == literal_column("1"))
    .values(size=bindparam("to_size"), latest=bindparam("to_latest"))
)
_INSERT_EVENTS = insert(table(EventRow))

_EPOCH_BITS = 62
_RAISE = {}
for _dialect, _upsert in UPSERTS.items():
    _insert = _upsert(GuardRow).values(id=bindparam("guard_id"), epoch=bindparam("to_epoch"))
    _RAISE[_dialect] = _insert.on_conflict_do_update(
        index_elements=[GuardRow.id], set_={"epoch": _insert.excluded.epoch}
    )


def lock_head(transaction: Transaction) -> Head:
    """Take the head row until the transaction ends."""
    (row,) = transaction.rows(_LOCK_HEAD[transaction.dialect.name])
    return Head(*row)


def epochs(transaction: Transaction, ids: Iterable[str]) -> dict[str, int]:
    """The present epoch of each id."""
    return present(transaction, _EPOCHS, ids)


async def epochs_of(session: AsyncSession, ids: Iterable[str]) -> dict[str, int]:
    """As :func:`epochs`, in the snapshot of a session."""
    connection = await session.connection()
    return await connection.run_sync(lambda sync: epochs(OnConnection(sync), ids))


def drawn_epoch() -> int:
    """A number that no epoch was; 0 is that of what has none yet."""
    return 1 + secrets.randbits(_EPOCH_BITS)


def raise_epochs(transaction: Transaction, ids: Iterable[str]) -> None:
    """Give each id a new epoch, one that it never had: in no history, also not in one that a restore took back.

    So it is drawn, not counted, and compared for being equal, never for being more.
    """
    rows = [{"guard_id": id_, "to_epoch": drawn_epoch()} for id_ in sorted(ids)]
    if rows:
        execute_many(transaction, _RAISE[transaction.dialect.name], rows)


async def raise_epoch(session: AsyncSession, *ids: str) -> None:
    """Make every decision that relied on these things, on any replica, be decided again.

    Call it in the transaction that changes them, before :func:`record`.
    """
    await session.flush()
    connection = await session.connection()
    await connection.run_sync(lambda sync: raise_epochs(OnConnection(sync), ids))


async def record(session: AsyncSession, *events: Event) -> None:
    """Put events on the record in the session's own transaction; the last thing that a transaction does."""
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
