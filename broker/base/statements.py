"""The hottest transaction's own way to the database: compiled statements and plain rows.

A statement is written with SQLAlchemy and compiled once for its dialect.  That spares its work per execution: look-ups
in a cache, and processing that text, integers and bytes don't need.  On SQLite the driver itself executes.  On
PostgreSQL, and inside ORM sessions, SQLAlchemy's connection does, with the compiled text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Executable
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from broker.base.id_column import Id, as_uuid
from broker.base.many_rows import on_sqlite


class Transaction(Protocol):
    """What a transaction offers to the audit log."""

    @property
    def dialect(self) -> Dialect:
        """The dialect that statements are written in."""
        ...

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Sequence[Any]]:
        """The rows of a query in the dialect's own words."""
        ...

    def many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute a statement once for every row of parameters."""
        ...


class OnConnection:
    """A transaction that SQLAlchemy's connection is in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Sequence[Any]]:
        return self._connection.exec_driver_sql(sql, parameters).all()

    def many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._connection.exec_driver_sql(sql, list(rows))


class OnSqlite:
    """A transaction on the driver itself."""

    dialect: Dialect = sqlite.dialect()

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Sequence[Any]]:
        return self._connection.execute(sql, parameters).fetchall()

    def many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        # At every step of a statement the driver lets other threads run, and then waits for the busy ones among them.
        for statement, parameters in on_sqlite(sql, rows):
            self._connection.execute(statement, parameters)


class Compiled(NamedTuple):
    """A statement in a dialect's words, its parameters' names in their order, and their makers.

    A maker makes a parameter of a value.  It is None if the value itself will do.
    """

    sql: str
    order: tuple[str, ...]
    made: tuple[Callable[[Any], Any] | None, ...]

    def values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """The parameters of a row."""
        return tuple(
            [row[name] if make is None else make(row[name]) for name, make in zip(self.order, self.made, strict=True)]
        )


_kept: dict[tuple[str, Executable], Compiled] = {}


def bound(dialect: Dialect, statement: Executable, row: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """A statement that changes rows, in the dialect's words, and a row's values in its order."""
    found = compiled(dialect, statement, row)
    return found.sql, found.values(row)


def execute_many(transaction: Transaction, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute a statement that changes rows for every row of values.

    A row has a value for every parameter.  All rows have the same keys.
    """
    found = compiled(transaction.dialect, statement, rows[0])
    transaction.many(found.sql, [found.values(row) for row in rows])


def compiled(dialect: Dialect, statement: Executable, names: Iterable[str]) -> Compiled:
    """A statement that changes rows, compiled.

    ``names`` are those of the columns that an INSERT has a value for.
    """
    key = (dialect.name, statement)
    if key not in _kept:
        made = statement.compile(dialect=dialect, column_keys=list(names))  # type: ignore[attr-defined]  # all have it
        assert isinstance(made, SQLCompiler)
        assert made.positiontup is not None
        order = tuple(made.positiontup)
        on_postgresql = dialect.name == "postgresql"
        makers = [as_uuid if on_postgresql and isinstance(made.binds[name].type, Id) else None for name in order]
        _kept[key] = Compiled(str(made), order, tuple(makers))
    return _kept[key]
