"""For how long what is over is kept, and how a page of it is looked through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from broker.base.clock import DAY_MS, Millis, later
from broker.base.pruning import PAGE, Key


@dataclass(frozen=True, slots=True)
class Keeping:
    """Days: of leases, of notices with their deliveries, and of requests for keys with their rotations."""

    leases: int
    notices: int
    requests: int


def before(now: Millis, days: int) -> Millis:
    """The time from before which what is over goes."""
    return later(now, -days * DAY_MS)


def page_of(
    key: Sequence[InstrumentedAttribute[Any]], after: Key | None, *wanted: ColumnElement[bool]
) -> Select[tuple[Any, ...]]:
    """The keys of a page of rows, in the order of an index."""
    if after is not None:
        wanted = (*wanted, tuple_(*key) > after)
    return select(*key).where(*wanted).order_by(*key).limit(PAGE)


def end_of(rows: Sequence[Any]) -> Key | None:
    """Where a page ended; None if it was the last one."""
    return tuple(rows[-1]) if len(rows) == PAGE else None
