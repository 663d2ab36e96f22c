"""Lists: a page of rows in an order that an index keeps.

It costs the same however many rows there are.

A filter names the ways by which indexes find its rows in that order.  What no index has together with the rest is
looked for: in so many rows for a page.  Such a page may have fewer rows than were asked for although there is a next
one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, any_, case, func, literal, select, text, true, tuple_, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.base.db import Scope, Table
from broker.base.errors import Invalid
from broker.formats.ids import OrganizationId

# So many rows are looked at for a page.  Of several organizations so many in all, as each may have the next ones.
LOOKED_AT = 2_000
_IN_ALL = 40_000
# At first so many for each that is wanted, as most lists have them close together.
_FEW = 4
AT_ONCE = 200
_DIGITS = 18

Row = TypeVar("Row", bound=Table)
Shown = TypeVar("Shown")
Column = InstrumentedAttribute[Any] | ColumnElement[Any]
# Row-level security makes PostgreSQL expect few rows, whoever asks.  Then it would read and sort all of them, where an
# index has them in order.  This holds until the transaction ends.
_BY_INDEX = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), "
    "set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true)"
)
# The columns of an order.  The last one is the row's id.
Key = Sequence[Column]


@dataclass(frozen=True, slots=True)
class Way:
    """Conditions that an index has, with ``key`` after them.

    That is the list's, or what another table calls it.
    """

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
    """Which part of a list is wanted: ``limit`` rows after the place that ``cursor`` names.

    An empty cursor names the beginning.
    """

    limit: int
    cursor: str = ""
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Sheet(Generic[Shown]):
    """A page of a list.  ``next`` is the cursor of the following one, None at the end."""

    rows: Sequence[Shown]
    next: str | None


def by(attribute: InstrumentedAttribute[Any], value: object) -> Filter | None:
    """The filter of rows with this value; None if any will do.

    There is an index of it with the list's key after it.
    """
    if value is None:
        return None
    return Filter(attribute == value, (Way((attribute == value,)),), tenant=attribute.key == "organization_id")


def found(*conditions: ColumnElement[bool]) -> Filter:
    """The filter of rows that meet these conditions.

    A partial index has them, and the list's key.
    """
    return Filter(and_(*conditions), (Way(conditions),))


async def sheet(
    session: AsyncSession,
    row: type[Row],
    filters: Iterable[Filter | None],
    cut: Cut,
    *key: Column,
    every: Sequence[Way] = (Way(),),
) -> Sheet[Row]:
    """The rows within the session's scope that all filters let through, ordered by ``key``.

    The first filter that has ways leads: its index finds the rows, and the others look at them.  Without one, the ways
    of ``every`` find all rows.

    Raises:
        Invalid: the cursor is not one of this list.
    """
    order = _Order(key, cut)
    await go_by_index(session)
    wanted = [one for one in filters if one is not None]
    conditions = [one.condition for one in wanted]
    leading = next((one for one in wanted if one.ways), None)
    scope: Scope = session.info["scope"]
    ways = leading.ways if leading else every
    tenants = _tenants(scope, row, wanted)
    whole = not wanted if tenants or leading is None else len(wanted) == 1 and leading.whole
    if whole and not tenants and len(ways) == 1 and ways[0].key is None:
        rows = list(await session.scalars(order.first(select(row).where(*conditions), cut.limit + 1)))
        return Sheet(rows[: cut.limit], order.place(rows[cut.limit - 1]) if len(rows) > cut.limit else None)
    # What was read is sorted: an index of the order would have all the others, too.
    read_order = [*(name + 0 for name in key[:-1]), key[-1]]
    for most in _steps(cut.limit + 1, 0 if whole else LOOKED_AT, len(tenants)):
        if tenants:
            places = await _of_each(session, row, order, sorted(tenants), most)
        else:
            places = _tuples(await session.execute(_merged(order, [order.found(way, most) for way in ways], most)))
        ids = list(dict.fromkeys(place[-1] for place in places))
        these = _these(session, select(row).where(looked_at(*conditions)), key[-1], ids)
        rows = list(await session.scalars(order.sorted(these, read_order).limit(cut.limit + 1))) if ids else []
        if len(rows) > cut.limit:
            return Sheet(rows[: cut.limit], order.place(rows[cut.limit - 1]))
        if len(places) < most:
            return Sheet(rows, None)
    return Sheet(rows, _text(places[-1]))


def _steps(wanted: int, most: int, tenants: int) -> list[int]:
    """How many rows are looked at for a page, then again if there were too few among them."""
    if tenants:
        most = min(most, _IN_ALL // tenants)
    most = max(wanted, most)
    return sorted({min(_FEW * wanted, most), most})


def looked_at(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """That rows meet all of these conditions, which no index is asked about.

    SQLite takes any index of a column to be as good as any other, and may leave the one by which rows are found.
    """
    return case((and_(true(), *conditions), 1), else_=0) == 1


async def go_by_index(session: AsyncSession) -> None:
    """Let the statements of a session that follow read by indexes."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(_BY_INDEX)


def _tenants(scope: Scope, row: type[Row], wanted: Sequence[Filter]) -> frozenset[OrganizationId]:
    """Whose rows have to be found apart.

    No index has those of several organizations in one order.
    """
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
        return self.sorted(self._beyond(query, names, self._after), names).limit(limit)

    def found(self, way: Way, limit: int) -> Select[Any]:
        """The places of the first rows that a way finds."""
        names = way.key or self.key
        return self.first(select(*_labelled(names)).where(*way.where), limit, names)

    def found_of(self, owner: Column, tenant: ColumnElement[Any], limit: int) -> Select[Any]:
        """The places of the first rows of one organization, which another part of the query names.

        It is asked for as a stretch of all of them.  If it were one value, an index of all rows in this order would do
        as well, and be read to its end.
        """
        names = [owner, *self.key]
        query = select(*_labelled(self.key)).where(owner >= tenant if self._newest else owner <= tenant)
        if self._after:
            query = self._beyond(query, names, (tenant, *self._after))
        else:
            query = query.where(owner <= tenant if self._newest else owner >= tenant)
            query = self._beyond(query, names, ())
        return self.sorted(query, names).limit(limit)

    def sorted_places(self, places: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Places in this order."""
        return sorted(places, reverse=self._newest)

    def _beyond(self, query: Select[Any], names: Key, after: Sequence[Any]) -> Select[Any]:
        # What has no value is nowhere in the order.
        query = query.where(*(name.is_not(None) for name in names if getattr(name, "nullable", False)))
        if not after:
            return query
        # An index takes several columns as one only where they are compared as one.
        values = [
            value if isinstance(value, ColumnElement) else literal(value, name.type)
            for value, name in zip(after, names, strict=True)
        ]
        place, here = (tuple_(*values), tuple_(*names)) if len(names) > 1 else (values[0], names[0])
        return query.where(here < place if self._newest else here > place)

    def sorted(self, query: Select[Any], key: Key | None = None) -> Select[Any]:
        """``query`` in the order of ``key``."""
        return query.order_by(*(name.desc() if self._newest else name for name in key or self.key))

    def place(self, row: Table) -> str:
        """The cursor of what comes after ``row``."""
        return _text([getattr(row, str(name.key)) for name in self.key])


def _labelled(names: Key) -> list[ColumnElement[Any]]:
    return [name.label(f"k{at}") for at, name in enumerate(names)]


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


def _tuples(rows: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


def _merged(order: _Order, each: Sequence[Select[Any]], most: int) -> Select[Any]:
    """The first of the places that each of these finds, all in order."""
    if len(each) == 1:
        return each[0]
    together = union_all(*(select(one.subquery()) for one in each)).subquery()
    return order.sorted(select(together), list(together.c)).limit(most)


async def _of_each(
    session: AsyncSession, row: type[Row], order: _Order, tenants: Sequence[OrganizationId], most: int
) -> list[tuple[Any, ...]]:
    """The places of the first rows of these organizations.

    Those of each are found by an index, then the first of them all.
    """
    owner: InstrumentedAttribute[Any] = row.organization_id  # type: ignore[attr-defined]  # as just seen
    if session.get_bind().dialect.name == "postgresql":
        each = func.unnest(literal(list(tenants), ARRAY(owner.type)), type_=owner.type)
        tenant = each.table_valued("id", name="tenant").render_derived()
        its = order.found_of(owner, tenant.c.id, most).correlate(tenant).lateral("its")
        query = order.sorted(select(its).select_from(tenant).join(its, true()), list(its.c)).limit(most)
        return _tuples(await session.execute(query))
    # SQLite has no lateral joins, and takes so many queries in one.
    places: list[tuple[Any, ...]] = []
    for some in (tenants[at : at + AT_ONCE] for at in range(0, len(tenants), AT_ONCE)):
        each_of = [order.found(Way((owner == tenant,)), most) for tenant in some]
        places += _tuples(await session.execute(_merged(order, each_of, most)))
    return order.sorted_places(places)[:most]


def _these(session: AsyncSession, query: Select[Any], row_id: Column, ids: Sequence[str]) -> Select[Any]:
    """Only the rows of these ids, which are looked up one by one."""
    if session.get_bind().dialect.name == "postgresql":
        return query.where(row_id == any_(literal(list(ids), ARRAY(row_id.type))))
    these = func.json_each(json.dumps(ids)).table_valued("value", name="these")
    return query.join(these, row_id == these.c.value)
