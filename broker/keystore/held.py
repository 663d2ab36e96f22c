"""Which master keys sealed values need, asked of the database.

No value leaves it, and no keystore is asked: the id of a value's master key stands in its first bytes
(:mod:`broker.formats.envelope`, :mod:`broker.formats.kv_reference`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    LargeBinary,
    Select,
    SQLColumnExpression,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from broker.base.db import EVERY_TENANT, Database
from broker.formats import envelope, kv_reference
from broker.keystore.columns import SealedColumn

# Rows of one statement, so that each takes the same short time however many there are.
_STRETCH = 50_000

Key = tuple[Any, ...]


class _ByteAt(FunctionElement[int]):
    """One byte of a value as a number; its arguments are the value and the place, from 1 on."""

    type = Integer()
    inherit_cache = True


@compiles(_ByteAt, "postgresql")
def _on_postgresql(element: _ByteAt, compiler: SQLCompiler, **given: Any) -> str:
    value, place = element.clauses
    return f"get_byte({compiler.process(value, **given)}, {compiler.process(place, **given)} - 1)"


@compiles(_ByteAt, "sqlite")
def _on_sqlite(element: _ByteAt, compiler: SQLCompiler, **given: Any) -> str:
    value, place = element.clauses
    digits = f"hex(substr({compiler.process(value, **given)}, {compiler.process(place, **given)}, 1))"
    return f"(instr('123456789ABCDEF', substr({digits}, 1, 1)) * 16 + instr('123456789ABCDEF', substr({digits}, 2)))"


def kek_in(sealed: SQLColumnExpression[Any]) -> ColumnElement[bytes | None]:
    """The id of the master key that a sealed value needs; NULL for what no keystore made.

    A value that was cut off after that id is said to need it, too.
    """
    # A CASE looks at its conditions in their order, so no byte is asked for that isn't there.
    reference = and_(func.length(sealed) >= _number(3), _begins_with(sealed, kv_reference.VERSION))
    path = _ByteAt(sealed, _number(2)) * _number(256) + _ByteAt(sealed, _number(3))
    seal = func.substr(sealed, _number(4 + kv_reference.NUMBER_BYTES + kv_reference.WRITE_TAG_BYTES) + path)
    return case((reference, _kek_in_envelope(seal)), else_=_kek_in_envelope(sealed))


def _kek_in_envelope(sealed: SQLColumnExpression[Any]) -> ColumnElement[bytes | None]:
    name = func.substr(sealed, _number(3), _ByteAt(sealed, _number(2)))
    return case(
        (func.length(sealed) < _number(3), null()),
        (~_begins_with(sealed, envelope.VERSION), null()),
        else_=cast(name, LargeBinary),
    )


def _begins_with(sealed: SQLColumnExpression[Any], version: int) -> ColumnElement[bool]:
    return func.substr(sealed, _number(1), _number(1)) == literal(bytes((version,)), LargeBinary)


def _number(value: int) -> ColumnElement[int]:
    """A number within the text of a statement, as it is the same for every value."""
    return literal_column(str(value), Integer)


async def held_in(
    db: Database, places: Sequence[SealedColumn], *, stretch: int = _STRETCH
) -> list[tuple[SealedColumn, Counter[str]]]:
    """How many values each master key holds in each column, all at one moment.

    What no keystore made is under "".  A statement looks at ``stretch`` rows.
    """
    async with db.read(EVERY_TENANT) as session:
        return [(place, await _held(session, place, stretch)) for place in places]


async def _held(session: AsyncSession, place: SealedColumn, stretch: int) -> Counter[str]:
    held: Counter[str] = Counter()
    after: Key | None = None
    while True:
        last = (await session.execute(last_of_stretch(place, after, stretch))).first()
        up_to = None if last is None else tuple(last)
        for kek_id, count in await session.execute(counted(place, after, up_to)):
            held[_text(kek_id)] += count
        if up_to is None:
            return held
        after = up_to


def last_of_stretch(place: SealedColumn, after: Key | None, rows: int) -> Select[Any]:
    """The key of the last of so many rows after a key; no row if there are fewer."""
    return select(*place.key).where(*within(place, after, None)).order_by(*place.key).offset(rows - 1).limit(1)


def counted(place: SealedColumn, after: Key | None, up_to: Key | None) -> Select[Any]:
    """How many values each master key holds in a stretch of a column's rows."""
    found = select(kek_in(place.sealed).label("kek_id")).where(*within(place, after, up_to))
    kek_id = found.where(place.sealed.is_not(None)).subquery().c.kek_id
    return select(kek_id, func.count()).group_by(kek_id)


def within(place: SealedColumn, after: Key | None, up_to: Key | None) -> list[ColumnElement[bool]]:
    """Whether a row's key is after one and not after another; None is no bound."""
    key = tuple_(*place.key)
    return [*([] if after is None else [key > after]), *([] if up_to is None else [key <= up_to])]


def _text(kek_id: bytes | None) -> str:
    return "" if kek_id is None else kek_id.decode("ascii", "backslashreplace")
