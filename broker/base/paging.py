"""Lists: a page of rows in an order that an index keeps, so that it costs the same however many rows there are.

A filter names the ways by which indexes find its rows in that order.  What no index has together with the rest is
looked for: in so many rows for a page.  Such a page may have fewer rows than were asked for although there is a next
one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, literal, select, true, tuple_, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from broker.base.db import Scope, Table
from broker.base.errors import Invalid
from broker.formats.ids import OrganizationId

# So many rows are looked at for a page.  Of several organizations so many in all, as each may have the next ones.
LOOKED_AT = 2_000
_IN_ALL = 40_000
_DIGITS = 18

Row = TypeVar("Row", bound=Table)
Shown = TypeVar("Shown")
Column = InstrumentedAttribute[Any] | ColumnElement[Any]
# The columns of an order.  The last one is the row's id.
Key = Sequence[Column]


@dataclass(frozen=True, slots=True)
class Way:
    """Conditions that an index has, with ``key`` after them: the list's, or what another table calls it."""

    where: tuple[ColumnElement[bool], ...] = ()
    key: tuple[Column, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """What narrows a list.

    Each row that meets ``condition`` is found by one of ``ways``; it is looked for if there is none.  ``whole`` if they
    find no other rows.  ``tenant`` if all of them are one organization's.
    """

    condition: ColumnElement[bool]
    ways: tuple[Way, ...] = ()
    whole: bool = True
    tenant: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of a list is wanted: ``limit`` rows after the place that ``cursor`` names, empty for the first."""

    limit: int
    cursor: str = ""
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Sheet(Generic[Shown]):
    """A page of a list.  ``next`` is the cursor of the following one, None at the end."""

    rows: Sequence[Shown]
    next: str | None


def by(attribute: InstrumentedAttribute[Any], value: object) -> Filter | None:
    """The filter of rows with this value, by an index of it with the list's key after it; None if any will do."""
    if value is None:
        return None
    return Filter(attribute == value, (Way((attribute == value,)),), tenant=attribute.key == "organization_id")


def found(*conditions: ColumnElement[bool]) -> Filter:
    """The filter of rows that meet these conditions; a partial index has them, and the list's key."""
    return Filter(and_(*conditions), (Way(conditions),))


async def sheet(
    session: AsyncSession,
    row: type[Row],
    filters: Iterable[Filter | None],
    cut: Cut,
    *key: Column,
    every: Sequence[Way] = (Way(),),
) -> Sheet[Row]:
    """The rows that all filters let through, within the session's scope, in the order of ``key``.

    The first filter that has ways leads: its index finds the rows, and the others look at them.  Without one, the ways
    of ``every`` find all rows.

    Raises:
        Invalid: the cursor is not one of this list.
    """
    order = _Order(key, cut)
    wanted = [one for one in filters if one is not None]
    query = select(row).where(*(one.condition for one in wanted))
    leading = next((one for one in wanted if one.ways), None)
    scope: Scope = session.info["scope"]
    ways = leading.ways if leading else every
    tenants = _tenants(scope, row, wanted)
    whole = not wanted if tenants or leading is None else len(wanted) == 1 and leading.whole
    if whole and not tenants and len(ways) == 1 and ways[0].key is None:
        rows = list(await session.scalars(order.first(query, cut.limit + 1)))
        return Sheet(rows[: cut.limit], order.place(rows[cut.limit - 1]) if len(rows) > cut.limit else None)
    most = cut.limit + 1 if whole else max(cut.limit + 1, LOOKED_AT)
    if tenants:
        most = max(cut.limit + 1, min(most, _IN_ALL // len(tenants)))
        places = _of_each(session, row, order, sorted(tenants), most)
    else:
        places = _of_all(order, ways, most)
    read = [tuple(place) for place in await session.execute(places)]
    ids = list(dict.fromkeys(place[-1] for place in read))
    rows = list(await session.scalars(order.sorted(query.where(key[-1].in_(ids))).limit(cut.limit + 1))) if ids else []
    if len(rows) > cut.limit:
        return Sheet(rows[: cut.limit], order.place(rows[cut.limit - 1]))
    return Sheet(rows, _text(read[-1]) if len(read) == most else None)


def _tenants(scope: Scope, row: type[Row], wanted: Sequence[Filter]) -> frozenset[OrganizationId]:
    """Whose rows have to be found apart, as no index has those of several organizations in one order."""
    if scope.organizations is None or not hasattr(row, "organization_id") or any(one.tenant for one in wanted):
        return frozenset()
    return scope.organizations


class _Order:
    """The order of a list, and the place in it where a page begins."""

    def __init__(self, key: Key, cut: Cut) -> None:
        self.key, self._newest = key, cut.newest
        self._after = _values(cut.cursor, len(key))

    def first(self, query: Select[Any], limit: int, key: Key | None = None) -> Select[Any]:
        """The first rows of ``query`` after the place, in the order of ``key``."""
        names = key or self.key
        if self._after:
            # An index takes several columns as one only where they are compared as one.
            values = [literal(value, name.type) for value, name in zip(self._after, names, strict=True)]
            place, here = (tuple_(*values), tuple_(*names)) if len(names) > 1 else (values[0], names[0])
            query = query.where(here < place if self._newest else here > place)
        return self.sorted(query, names).limit(limit)

    def sorted(self, query: Select[Any], key: Key | None = None) -> Select[Any]:
        """``query`` in the order of ``key``."""
        return query.order_by(*(name.desc() if self._newest else name for name in key or self.key))

    def place(self, row: Table) -> str:
        """The cursor of what comes after ``row``."""
        return _text([getattr(row, str(name.key)) for name in self.key])


def _values(cursor: str, count: int) -> tuple[Any, ...]:
    """The values of the key that a cursor names; none for the beginning."""
    if not cursor:
        return ()
    *numbers, last = cursor.split(".")
    if len(numbers) != count - 1 or not all(text.isdecimal() and len(text) <= _DIGITS for text in numbers):
        raise Invalid("cursor: is not one of this list; take `next` of the page before.")
    return (*map(int, numbers), last)


def _text(place: Sequence[Any]) -> str:
    return ".".join(map(str, place))


def _of_all(order: _Order, ways: Sequence[Way], most: int) -> Select[Any]:
    """The places of the first rows that these ways find."""
    each = []
    for way in ways:
        names = way.key or order.key
        labelled = [name.label(f"k{at}") for at, name in enumerate(names)]
        each.append(order.first(select(*labelled).where(*way.where), most, names))
    if len(each) == 1:
        return each[0]
    together = union_all(*(select(one.subquery()) for one in each)).subquery()
    return order.sorted(select(together), list(together.c)).limit(most)


def _of_each(
    session: AsyncSession, row: type[Row], order: _Order, tenants: Sequence[OrganizationId], most: int
) -> Select[Any]:
    """The places of the first rows of these organizations: those of each by an index, then the first of them all."""
    owner: InstrumentedAttribute[Any] = row.organization_id  # type: ignore[attr-defined]  # as just seen
    if session.get_bind().dialect.name == "postgresql":
        tenant = func.unnest(literal(list(tenants), ARRAY(owner.type))).column_valued("tenant")
        labelled = [name.label(f"k{at}") for at, name in enumerate(order.key)]
        its = order.first(select(*labelled).where(owner == tenant), most).correlate(tenant).lateral("its")
        return order.sorted(select(its).select_from(tenant).join(its, true()), list(its.c)).limit(most)
    value = func.json_each(json.dumps(tenants)).table_valued("value", name="tenant")
    mine = order.first(select(order.key[-1]).where(owner == value.c.value), most).correlate(value)
    other = aliased(row)
    names = [getattr(other, str(name.key)) for name in order.key]
    return order.sorted(select(*names).select_from(value).where(names[-1].in_(mine)), names).limit(most)
