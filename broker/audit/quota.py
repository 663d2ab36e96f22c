"""What may be used up, counted in the transaction of the event that uses it.

So it is exact, on every replica.  A quota is one whole number by id (no row means 0), and the rule that takes from it.
Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import bindparam, case, literal_column, update

from broker.audit.tables import QuotaRow
from broker.base.db import UPSERTS, table
from broker.base.statements import Transaction, execute_many

# A number may lie further ahead than it was ever set, by more than replicas' clocks differ. Then it is from before the
# clock stepped back, and would stop everybody until that time comes again.
SKEW_MS = 60_000


class Exhausted(Exception):
    """The quota is used up.

    ``wait`` is the milliseconds until it isn't, None if it stays so.
    """

    def __init__(self, quota: str, wait: int | None) -> None:
        super().__init__(quota)
        self.quota = quota
        self.wait = wait


class Total(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """At most ``limit`` events in all."""

    id: str
    limit: int

    def take(self, value: int, now: int) -> int:  # noqa: ARG002 - time doesn't matter to a total
        if value >= self.limit:
            raise Exhausted(self.id, None)
        return value + 1


class Rate(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """``events`` at once, refilled evenly over ``period``.

    This is the generic cell rate algorithm (ITU-T I.371).
    """

    id: str
    events: int
    period: int

    def take(self, value: int, now: int) -> int:
        """The next theoretical arrival time, in microseconds: that is what the number is."""
        now *= 1_000
        period = self.period * 1_000
        if value > now + period + SKEW_MS * 1_000:
            value = now
        arrival = min(max(value, now), now + period) + period // self.events
        if (late := arrival - now - period) > 0:
            raise Exhausted(self.id, -(-late // 1_000))
        return arrival


class Cooldown(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """No event until the time that the number is.

    That lies at most ``longest`` ahead.
    """

    id: str
    longest: int

    def take(self, value: int, now: int) -> int:
        if now < value <= now + self.longest + SKEW_MS:
            raise Exhausted(self.id, min(value - now, self.longest))
        return value


# Something that events take from: its number, and the rule.
Quota: TypeAlias = Total | Rate | Cooldown

_SET = {}
_COOLDOWN = {}
for _dialect, _upsert in UPSERTS.items():
    _insert = _upsert(QuotaRow).values(id=bindparam("quota"), value=bindparam("number"))
    _SET[_dialect] = _insert.on_conflict_do_update(index_elements=[QuotaRow.id], set_={"value": _insert.excluded.value})
    _later = case((_insert.excluded.value > QuotaRow.value, _insert.excluded.value), else_=QuotaRow.value)
    _COOLDOWN[_dialect] = _insert.on_conflict_do_update(index_elements=[QuotaRow.id], set_={"value": _later})


# Gives one back to a :class:`Total` (parameter ``taken``) from which it was taken for what did not happen.  Literals,
# as an event's statements have no parameters but the row's.
GIVE_BACK = (
    update(table(QuotaRow))
    .where(QuotaRow.id == bindparam("taken"), QuotaRow.value > literal_column("0"))
    .values(value=QuotaRow.value - literal_column("1"))
)


def cooldown_statement(dialect: str) -> Any:  # noqa: ANN401 - the two dialects' Insert types share no public base
    """The statement that sets a :class:`Cooldown`, for an event's own writes.

    Its parameters are ``quota`` and ``number``.
    """
    return _COOLDOWN[dialect]


def keep(transaction: Transaction, changed: Mapping[str, int]) -> None:
    """Store changed numbers."""
    rows = [{"quota": name, "number": value} for name, value in changed.items()]
    execute_many(transaction, _SET[transaction.dialect.name], rows)
