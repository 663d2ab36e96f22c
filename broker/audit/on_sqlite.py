"""A batch on SQLite: one transaction in the writer's thread.

There is one statement for a table, whatever the batch's length.

``BEGIN IMMEDIATE`` holds the only write lock that there is, so what is read then is the present.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from broker.audit.batch import Batch, Decided, Piece, accepted_of
from broker.audit.head import Head
from broker.audit.quota import Exhausted, keep
from broker.audit.record import insert_events
from broker.audit.unavailable import DatabaseBehind
from broker.base.db import Database
from broker.base.statements import Transaction

# All in one row: at every row's step the driver lets other threads run, and waits for them.
_PRESENT: Final = """
SELECT size, latest, month,
    (SELECT json_group_object(id, epoch) FROM guards WHERE id IN (SELECT value FROM json_each(?))),
    (SELECT json_group_object(id, value) FROM allowances WHERE id IN (SELECT value FROM json_each(?)))
FROM audit_head WHERE id = 1
"""
_COMMITTED: Final = "SELECT id, idx FROM audit_events WHERE id IN (SELECT value FROM json_each(?))"
_numbers = msgspec.json.Decoder(dict[str, int]).decode


class SqliteCommits:
    """Batches of one process on SQLite."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def commit(self, batch: Batch) -> Decided:
        return await self._db.transact(partial(write, batch))

    async def close(self) -> None:
        """Nothing of its own is held."""


def write(batch: Batch, transaction: Transaction) -> Decided:
    """Decide on a batch and write what is accepted; raises DatabaseBehind."""
    guards = {guard for piece in batch.pieces for guard in piece.guards}
    quotas = {quota.id for piece in batch.pieces for quota in piece.quotas}
    ((size, latest, month, epochs, numbers),) = transaction.rows(
        _PRESENT, (json.dumps([*guards]), json.dumps([*quotas]))
    )
    if size < batch.floor:
        raise DatabaseBehind
    if batch.repeated and (written := _written(batch, transaction)):
        return Decided(min(written.values()), tuple([piece.values.id in written for piece in batch.pieces]))
    decision = _Decision(batch.pieces, _numbers(epochs), dict.fromkeys(quotas, 0) | _numbers(numbers))
    accepted = accepted_of(batch, decision.accepted)
    if accepted:
        if decision.changed:
            keep(transaction, decision.changed)
        insert_events(transaction, Head(size, latest, month), [piece.values for piece in accepted])
        for sql, rows in _grouped(batch, accepted).items():
            if rows:
                transaction.many(sql, rows)
    return Decided(size, tuple(decision.accepted), decision.exhausted)


def _written(batch: Batch, transaction: Transaction) -> dict[str, int]:
    """The indices of a batch's events that are on the record, by their ids."""
    ids = json.dumps([piece.values.id for piece in batch.pieces])
    return {id_: index for id_, index in transaction.rows(_COMMITTED, (ids,))}  # noqa: C416 - a row is no pair to mypy


class _Decision:
    """Which pieces are accepted, one after the other.

    The function of PostgreSQL decides likewise (:mod:`broker.audit.on_postgresql`).
    """

    def __init__(self, pieces: Sequence[Piece], epochs: Mapping[str, int], numbers: Mapping[str, int]) -> None:
        self.exhausted: dict[int, tuple[str, int | None]] = {}
        self._after = dict(numbers)
        self.accepted = [
            all(epochs.get(guard, 0) == epoch for guard, epoch in piece.guards.items()) and self._takes(place, piece)
            for place, piece in enumerate(pieces)
        ]
        self.changed = {quota: value for quota, value in self._after.items() if value != numbers[quota]}

    def _takes(self, place: int, piece: Piece) -> bool:
        """Take from every quota of a piece, or from none."""
        try:
            self._after |= {quota.id: quota.take(self._after[quota.id], piece.values.time) for quota in piece.quotas}
        except Exhausted as exhausted:
            self.exhausted[place] = (exhausted.quota, exhausted.wait)
            return False
        return True


def _grouped(batch: Batch, accepted: Sequence[Piece]) -> dict[str, list[tuple[object, ...]]]:
    """The rows of the accepted by their statements.

    These go in the order in which they come in the whole batch.
    """
    groups: dict[str, list[tuple[object, ...]]] = {sql: [] for piece in batch.pieces for sql, _ in piece.writes}
    for piece in accepted:
        for sql, values in piece.writes:
            groups[sql].append(values)
    return groups
