"""The record's head, which whoever records holds: its lock is the order of the record."""

from __future__ import annotations

from dataclasses import dataclass

from broker.base.clock import Millis
from broker.base.statements import Transaction


@dataclass(frozen=True, slots=True)
class Head:
    """The number of the record's events, the latest time of one, and the next one's month.

    The time is 0 if there is none.
    """

    size: int
    latest: Millis
    month: int


_LOCK_HEAD = {
    "postgresql": "SELECT size, latest, month FROM keybroker_head()",
    # BEGIN IMMEDIATE holds the only write lock there is
    "sqlite": "SELECT size, latest, month FROM audit_head WHERE id = 1",
}


def lock_head(transaction: Transaction) -> Head:
    """Take the head row until the transaction ends."""
    (row,) = transaction.rows(_LOCK_HEAD[transaction.dialect.name])
    return Head(*row)
