"""For how long what is over is kept, and how a page of it is looked through.

What stays is asked for in queries of their own, one for each reason, which join by index.  In one condition with OR,
PostgreSQL may read the other table whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.base.clock import DAY_MS, Millis, later
from broker.base.pruning import PAGE, Key

Id = TypeVar("Id", bound=str)


@dataclass(frozen=True, slots=True)
class Keeping:
    """Days: of leases, of notices with their deliveries, of requests for keys with rotations."""

    leases: int
    notices: int
    requests: int


def before(now: Millis, days: int) -> Millis:
    """The time from before which what is over goes."""
    return later(now, -days * DAY_MS)


def page_of(key: Sequence[InstrumentedAttribute[Any]], after: Key | None, *wanted: ColumnElement[bool]) -> Select[Any]:
    """The keys of a page of rows, in the order of an index."""
    if after is not None:
        wanted = (*wanted, tuple_(*key) > after)
    return select(*key).where(*wanted).order_by(*key).limit(PAGE)


async def rest_of(session: AsyncSession, page: Iterable[Id], *stay: Select[Id]) -> list[Id]:
    """What of a page none of these queries says to stay."""
    rest = dict.fromkeys(page)
    for query in stay:
        for named in await session.scalars(query):
            rest.pop(named, None)
    return list(rest)


def end_of(rows: Sequence[Any]) -> Key | None:
    """Where a page ended; None if it was the last one."""
    return tuple(rows[-1]) if len(rows) == PAGE else None
