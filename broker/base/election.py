"""One holder among processes, by a lock that ends with its holder.

On PostgreSQL it is an advisory lock, which a connection holds and which goes with it.  If the process dies, it goes at
once.  If the process's machine is gone, it goes within the seconds that TCP keepalive takes.  Two processes may believe
for that long that they hold it, so the holder does only what may be done twice.

A process that is frozen and not dead (stopped, or its machine paused) keeps the lock, as its kernel still answers.
Whoever watches processes has to end it (its ``/healthz`` is silent), or its connection, which ``pg_stat_activity``
shows as ``keybroker worker``.

On SQLite it is the lock of a file beside the database, which goes with the process at once.
"""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import structlog

from broker.base.db import Database, look_alive
from broker.base.sqlite import keep_private

_log = structlog.get_logger()
_PING_S = 2.0
_UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Election:
    """A candidate for the lock ``key`` (64 bits).

    On SQLite there is one lock, whatever the key.
    """

    def __init__(self, db: Database, key: int) -> None:
        self._db = db
        self._key = key
        self._connection: Any = None
        self._file: BinaryIO | None = None
        self.leads = False

    async def holds(self) -> bool:
        """Whether this process holds the lock now; tries to take it if not."""
        self.leads = await self._holds()
        return self.leads

    async def _holds(self) -> bool:
        if self._db.file is not None:
            return self._holds_beside(self._db.file)
        try:
            async with asyncio.timeout(_PING_S):
                if self._connection is not None:
                    await look_alive(self._connection)
                    return True
                return await self._try()
        except Exception as error:  # noqa: BLE001 - whatever it was, the lock is not known to be held
            if self._connection is not None or not isinstance(error, _UNREACHABLE):
                _log.warning("worker.lost_its_place", error=type(error).__name__)
            self.leave()
            return False

    def _holds_beside(self, database: Path) -> bool:
        if self._file is not None:
            return True
        beside = database.with_name(database.name + ".working")
        keep_private(beside)
        file = beside.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        _log.info("worker.elected")
        return True

    async def _try(self) -> bool:
        connection = await self._db.dedicated("worker")
        try:
            await look_alive(connection)
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key):
                self._connection, connection = connection, None
                _log.info("worker.elected")
        finally:
            if connection is not None:
                connection.terminate()
        return self._connection is not None

    def leave(self) -> None:
        """Give the lock up if this process holds it."""
        with suppress(Exception):
            if self._connection is not None:
                self._connection.terminate()
        if self._file is not None:
            self._file.close()
        self._connection = self._file = None
