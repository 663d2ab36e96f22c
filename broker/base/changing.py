"""Connections on which the schema is changed beside uses, and who keeps one waiting.

On PostgreSQL whoever waits for a table's strongest lock keeps all waiting who come after.  So a transaction that
changes a table gives way after a moment, and its caller tries again.  What runs outside of a transaction
(``CREATE INDEX CONCURRENTLY``) is in nobody's way, so it waits on.  On SQLite there is one writer, who waits its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final

import asyncpg
from sqlalchemy import Connection, NullPool, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from broker.base.db import EVERY_TENANT, Database
from broker.base.faults import code

# So long uses of a table may stand behind a transaction that waits to change it.
GIVES_WAY_S: Final = 1
_LOOKS_S: Final = 0.2
_TELLS_S: Final = 10
_AGAIN_S: Final = 0.01
# Of PostgreSQL: a lock wasn't had in time; a deadlock was ended.
_LOCKED: Final = frozenset({"55P03", "40P01"})

_HOLDERS: Final = """
SELECT DISTINCT other.pid, other.usename, other.application_name, other.state, other.backend_type,
    extract(epoch FROM clock_timestamp() - other.xact_start)::bigint AS seconds
FROM pg_stat_activity mine
CROSS JOIN LATERAL unnest(pg_blocking_pids(mine.pid)) blocking(pid)
JOIN pg_stat_activity other ON other.pid = blocking.pid
WHERE mine.pid = ANY($1) AND mine.wait_event_type = 'Lock'
ORDER BY other.pid
"""

_UNFINISHED: Final = text("""
SELECT indexrelid::regclass::text AS index, indrelid::regclass::text AS of_table
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT indisvalid AND relkind = 'i' AND relnamespace = current_schema()::regnamespace
    AND pg_has_role(relowner, 'USAGE')
""")

# Whoever finishes a build lets the table's lock go before it ends its transaction, by which the index is whole.
_BEING_FINISHED: Final = text("""
SELECT EXISTS (
    SELECT FROM pg_index JOIN pg_locks ON locktype = 'transactionid' AND granted AND transactionid = pg_index.xmax
)
""")

# Not at the connection's start, as a pooler may drop what it doesn't know there. Whoever is frozen holds no table for
# ever.
_BEGIN: Final = text("""
SELECT pg_backend_pid(), set_config('broker.tenants', :tenants, false), set_config('lock_timeout', :patience, false),
    set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '10000', false)
""")
_WAIT_ON: Final = text("SELECT set_config('lock_timeout', :patience, true)")


def is_locked(error: BaseException) -> bool:
    """Whether a change gave way to those who use a table.

    It did nothing then, and is tried again.
    """
    return code(error) in _LOCKED


class Waiting:
    """Who keeps a change waiting, as the server says; empty until somebody does.

    It has no text of a statement, as that may quote anything.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.whose: set[int] = set()
        self.last = ""
        self._tell = tell
        self._told_at = -float(_TELLS_S)

    async def watch(self, connection: asyncpg.Connection) -> None:
        """Look again and again, and tell of it now and then, as long as the connection is of use."""
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            while True:
                await self._look(connection)
                await asyncio.sleep(_LOOKS_S)

    async def _look(self, connection: asyncpg.Connection) -> None:
        rows = await connection.fetch(_HOLDERS, list(self.whose))
        if not rows:
            return
        self.last = ", ".join(map(_named, rows))
        if monotonic() - self._told_at >= _TELLS_S:
            self._tell(self.last)
            self._told_at = monotonic()


def _named(row: asyncpg.Record) -> str:
    what = [row["application_name"] or row["backend_type"] or "", f"role {row['usename']}" if row["usename"] else ""]
    if row["state"]:
        what.append(row["state"] if row["seconds"] is None else f"{row['state']}, begun {row['seconds']} s ago")
    return f"process {row['pid']} ({', '.join(filter(None, what))})"


class Changing:
    """A database whose schema is being changed.

    ``tell`` is called now and then with who keeps a change waiting.  A lock that is waited for outside of a
    transaction is given up after ``patience_s``.
    """

    def __init__(self, db: Database, patience_s: float, tell: Callable[[str], None]) -> None:
        self._db = db
        self._patience = f"{patience_s * 1000:.0f}"
        self.waiting = Waiting(tell)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection outside of any transaction, whose statements may take as long as they take.

        On PostgreSQL it sees every tenant, and what builds of indexes left unfinished is gone.
        """
        if self._db.dialect == "sqlite":
            async with self._db.writing() as connection:
                try:
                    yield connection
                finally:
                    # What ran outside of a transaction left the driver in another mode.
                    await connection.invalidate()
            return
        engine = self._engine()
        async with self._watched():
            await self._drop_unfinished(engine)
            async with self._connected(engine) as connection:
                yield connection

    def _engine(self) -> AsyncEngine:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: self._db.dedicated("schema", longest_s=None),
            poolclass=NullPool,
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "begin", _give_way)
        return engine

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with engine.connect() as connection:
            settings = {"tenants": EVERY_TENANT.setting(), "patience": self._patience}
            pid = (await connection.execute(_BEGIN, settings)).scalar_one()
            await connection.commit()
            self.waiting.whose.add(pid)
            try:
                yield connection
            finally:
                self.waiting.whose.discard(pid)

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        connection = await self._db.dedicated("schema watch")
        watching = asyncio.create_task(self.waiting.watch(connection))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await connection.close(timeout=5)

    async def _drop_unfinished(self, engine: AsyncEngine) -> None:
        """Drop the indexes whose concurrent build was interrupted.

        They serve nobody, and keep their names taken.
        """
        async with self._connected(engine) as connection:
            async with connection.begin():
                found = (await connection.execute(_UNFINISHED)).all()
                if not found:
                    return
                # The server may still build for a client that is gone. It has this lock meanwhile; uses don't mind it.
                await connection.execute(_WAIT_ON, {"patience": self._patience})
                for name in sorted({row.of_table for row in found}):
                    await connection.execute(text(f"LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE"))
                while (await connection.execute(_BEING_FINISHED)).scalar_one():  # noqa: ASYNC110 - the server's
                    await asyncio.sleep(_AGAIN_S)
                found = (await connection.execute(_UNFINISHED)).all()
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            for row in found:
                await connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {row.index}"))


def _give_way(connection: Connection) -> None:
    """Wait for a moment only, in a transaction."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{GIVES_WAY_S}s'")
