"""How much room a database takes, and how much its server has written to its log."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy.engine import make_url

_SIZES = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname ~ ('^' || $1 || '($|_p|_[0-9])')
"""
_TABLES = ("audit_events", "leases", "credential_versions", "grants", "intakes")


class Weight(NamedTuple):
    """Bytes on disk, and of the log since the server was made; None where none is told."""

    disk: int
    log: int | None


def scales(url: str | None, file: Path) -> Callable[[], Weight]:
    """What weighs the database at this address, or in this file of SQLite's."""
    if url is None:
        return lambda: Weight(_pages(file), None)
    return lambda: Weight(
        *asyncio.run(_asked(url, "SELECT pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'"))
    )


def rows_of_tables(url: str) -> Iterator[tuple[str, float]]:
    """Bytes of a row of the large tables, with all indexes."""
    for table in _TABLES:
        ((size,), (rows,)) = (asyncio.run(_asked(url, query, *given)) for query, given in _of(table))
        yield f"{table}_row_bytes", float(size) / max(1, rows)


def _of(table: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield _SIZES, (table,)
    yield f"SELECT count(*) FROM {table}", ()


def _pages(file: Path) -> int:
    with closing(sqlite3.connect(file, timeout=60)) as opened:
        ((pages,), (size,)) = (opened.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    return int(pages * size)


async def _asked(url: str, query: str, *given: str) -> tuple[Any, ...]:
    # Not as the broker's role, which row-level security shows nothing.
    address = make_url(url).set(drivername="postgresql", username="postgres")
    connection = await asyncpg.connect(address.render_as_string(hide_password=False), command_timeout=600)
    try:
        return tuple(await connection.fetchrow(query, *given))
    finally:
        await connection.close()
