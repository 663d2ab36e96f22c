"""SQLite: its engine, its one writing connection, and its files, which are private."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from broker.base.outage import end_useless_connections, ends_connection
from broker.base.statements import OnSqlite, Transaction

Result = TypeVar("Result")

# So long one process waits for another one's transaction.
BUSY_S = 5
_OWNERS = 0o600


def sqlite_engine(url: str, pool_size: int) -> AsyncEngine:
    """An engine whose transactions begin as readers or as the one writer, never in between."""
    engine = create_async_engine(url, pool_size=pool_size, connect_args={"timeout": BUSY_S}, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    end_useless_connections(engine.sync_engine)
    return engine


class SqliteConnection:
    """The driver's own connection, opened by the thread that uses it first; no other one may."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def run(self, work: Callable[[Transaction], Result]) -> Result:
        """Run ``work`` in one transaction.

        A connection that is of no more use is closed.
        """
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
            _set_pragmas(self._connection)
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(OnSqlite(connection))
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if ends_connection(error):
                self.close()
            raise
        return result

    def close(self) -> None:
        """Close it; the next transaction opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteThread:
    """A connection and the one thread that uses it."""

    def __init__(self, path: Path) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._connection = SqliteConnection(path)

    def run(self, work: Callable[[Transaction], Result]) -> Result:
        """Run ``work`` in one transaction; called in the thread."""
        return self._connection.run(work)

    def close(self) -> None:
        """Close the connection in its thread, and end that."""
        self.executor.submit(self._connection.close)
        self.executor.shutdown()


def keep_private(file: Path) -> None:
    """Have a file of SQLite's read by its owner alone, whatever the folder's mode.

    The file is made if there is none.  What SQLite keeps beside it later gets the file's mode; what is beside it
    already gets that mode here.
    """
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    for each in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))):
        with suppress(FileNotFoundError):
            status = each.stat()
            # It isn't opened: closing it would end the locks that SQLite has on it in this process.
            if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != _OWNERS:
                each.chmod(_OWNERS)


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    # The driver's implicit BEGIN is switched off so that ours decides between reading and writing.
    connection.isolation_level = None
    # Its own knows the letters of ASCII only. PostgreSQL's knows all, so a name is found by the same words on both.
    connection.create_function("lower", 1, _lower, deterministic=True)
    _set_pragmas(connection)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _set_pragmas(connection: DBAPIConnection | sqlite3.Connection) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A write that began as a read can fail half-way with SQLITE_BUSY_SNAPSHOT; IMMEDIATE takes the lock at once.
    writing = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
