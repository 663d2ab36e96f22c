"""One query in one round trip: a way to read beside the sessions.

A session on PostgreSQL costs a trip to see that its connection lives, one to begin, one to name its tenants and one to
end; on SQLite each of its statements is handed to a thread.  A query that is all there is to read needs none of that,
as one statement is one snapshot.  It has a connection of its own, so it waits for no session, nor for a writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from broker.base.faults import is_away
from broker.base.outage import ends_connection

_BUSY_S = 5


class Reader(Protocol):
    """A connection that only reads."""

    async def rows(self, query: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of a query in the dialect's own words; raises what the driver raises."""
        ...

    async def close(self) -> None:
        """Close the connection, once the query that is under way has its answer."""
        ...


class PostgresReader:
    """A connection outside of the pool, made when it is first needed."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._asking = asyncio.Lock()

    async def rows(self, query: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        async with self._asking:
            used = self._connection is not None
            try:
                return await self._ask(query, parameters)
            except Exception as error:
                # Nobody asks beforehand whether it still lives: if it doesn't, this is how that is noticed.
                if not used or not is_away(error):
                    raise
            return await self._ask(query, parameters)

    async def close(self) -> None:
        async with self._asking:
            self._drop()

    async def _ask(self, query: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        if self._connection is None:
            self._connection = await self._connect()
        try:
            found: Sequence[Sequence[Any]] = await self._connection.fetch(query, *parameters)
        except Exception as error:
            if is_away(error):
                self._drop()
            raise
        return found

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


class SqliteReader:
    """The driver's own connection and the one thread that uses it: one hop for each query."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")
        self._connection: sqlite3.Connection | None = None

    async def rows(self, query: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, query, parameters)

    async def close(self) -> None:
        self._thread.submit(self._drop)
        self._thread.shutdown()

    def _ask(self, query: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
            self._connection.execute("PRAGMA query_only = ON")
            # Whoever can write the file can have put there what is no text.
            self._connection.text_factory = _text
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            if ends_connection(error):
                self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")
