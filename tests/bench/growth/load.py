"""Many rows into a database at once: COPY on PostgreSQL, one transaction for each piece on SQLite.

Rows are by the attributes of their class.  Each value goes through its column's type, as SQLAlchemy's own statements
have it.  So a column that keeps an id in another form is filled like any other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Protocol

import asyncpg
from sqlalchemy import inspect
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.sql.elements import NamedColumn

from broker.base.db import Database, Table

Row = Mapping[str, Any]


class BulkLoad(Protocol):
    """Keeps rows."""

    async def rows(self, table: type[Table], rows: Sequence[Row]) -> None:
        """Keep these, which all have the same attributes."""
        ...

    async def finish(self) -> None:
        """Do what the database would do by itself a little later, in the midst of what is measured."""
        ...


@asynccontextmanager
async def loading(db: Database) -> AsyncIterator[BulkLoad]:
    """A way into ``db``, whose triggers and tenant fences rest meanwhile."""
    address = db.engine.url
    if db.dialect == "sqlite":
        with closing(sqlite3.connect(address.database or "", isolation_level=None, timeout=60)) as file:
            yield _SqliteLoad(file, db.engine.dialect)
        return
    connection = await asyncpg.connect(_as_superuser(address), command_timeout=1200)
    try:
        await connection.execute("SET session_replication_role = replica")  # nobody is told of guards by the thousand
        yield _PostgresLoad(connection, db.engine.dialect)
    finally:
        await connection.close()


def _as_superuser(address: URL) -> str:
    # COPY goes past no row-level security, and of tests' servers the superuser is known.
    return address.set(drivername="postgresql", username="postgres").render_as_string(hide_password=False)


class _PostgresLoad:
    def __init__(self, connection: asyncpg.Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    async def rows(self, table: type[Table], rows: Sequence[Row]) -> None:
        columns = _columns(table, rows[0])
        await self._connection.copy_records_to_table(
            table.__tablename__,
            records=_values(rows, columns, self._dialect),
            columns=[column.name for column in columns.values()],
        )

    async def finish(self) -> None:
        await self._connection.execute("VACUUM ANALYZE")


class _SqliteLoad:
    def __init__(self, file: sqlite3.Connection, dialect: Dialect) -> None:
        self._file = file
        self._dialect = dialect

    async def rows(self, table: type[Table], rows: Sequence[Row]) -> None:
        columns = _columns(table, rows[0])
        names = ", ".join(f'"{column.name}"' for column in columns.values())
        places = ", ".join("?" * len(columns))
        self._file.execute("BEGIN IMMEDIATE")
        self._file.executemany(
            f"INSERT INTO {table.__tablename__} ({names}) VALUES ({places})",
            _values(rows, columns, self._dialect),
        )
        self._file.execute("COMMIT")

    async def finish(self) -> None:
        self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _columns(table: type[Table], row: Row) -> dict[str, NamedColumn[Any]]:
    attributes = inspect(table).column_attrs
    return {name: attributes[name].columns[0] for name in row}


def _values(
    rows: Sequence[Row], columns: Mapping[str, NamedColumn[Any]], dialect: Dialect
) -> Iterator[tuple[Any, ...]]:
    bound = [(name, _bound(column, dialect)) for name, column in columns.items()]
    for row in rows:
        yield tuple([row[name] if bind is None else bind(row[name]) for name, bind in bound])


def _bound(column: NamedColumn[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return column.type.dialect_impl(dialect).bind_processor(dialect)
