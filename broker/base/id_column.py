"""Columns of ids: ``uuid`` on PostgreSQL, text on SQLite.

In Python they are prefixed strings (:mod:`broker.formats.ids`).

A ``uuid`` is 16 bytes in a row and in each index; the text is 36.  Its kind is its column's.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Dialect, String, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine

from broker.formats.ids import digits_of

# Stands for no id: it comes before every id, as the empty text does.
NONE: Final = "0" * 32


def as_uuid(value: object) -> object:
    """What PostgreSQL takes for an id.

    It is None for a text that is neither an id nor empty, and so equals none.  What is no text is the database's to
    refuse.
    """
    if not isinstance(value, str):
        return value
    return digits_of(value) if value else NONE


class Id(TypeDecorator[str]):
    """Ids with one prefix, or ``""`` for none."""

    impl = String
    cache_ok = True

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(postgresql.UUID() if dialect.name == "postgresql" else String())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> object:
        return as_uuid(value) if dialect.name == "postgresql" else value

    def process_result_value(self, value: UUID | str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - declared so
        return self.of(value.hex) if isinstance(value, UUID) else value

    def of(self, hexadecimal: str) -> str:
        """The id with these digits."""
        return "" if hexadecimal == NONE else f"{self.prefix}_{hexadecimal}"

    def coerce_compared_value(self, op: OperatorType | None, value: object) -> TypeEngine[Any]:  # noqa: ARG002 - declared so
        return self


class IdText(FunctionElement[str]):
    """The ids of a column as they are in Python, to be compared with text or kept as such."""

    type = String()
    inherit_cache = True
    name = "id_text"


@compiles(IdText)
def _as_it_is(element: IdText, compiler: SQLCompiler, **more: Any) -> str:
    return compiler.process(element.clauses, **more)


@compiles(IdText, "postgresql")
def _with_prefix(element: IdText, compiler: SQLCompiler, **more: Any) -> str:
    (column,) = element.clauses
    assert isinstance(column.type, Id)
    return f"('{column.type.prefix}_' || replace(CAST({compiler.process(column, **more)} AS VARCHAR), '-', ''))"
