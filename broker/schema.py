"""Bring a database to the schema of this version (Alembic), and say whether it is there."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from broker.base.db import Database
from broker.base.sqlite import keep_private

_log = structlog.get_logger()
# The advisory lock of whoever changes the schema; any number that nobody else takes.
_CHANGING = 0x6B65_795F_7363_686D
_AGAIN_S = 0.2


class SchemaUnusable(Exception):
    """The database's schema or role is not one that this version may run on; names the fix."""


def _config() -> Config:
    packaged = Path(__file__).parent / "_migrations"
    config = Config()
    # The wheel carries the migrations inside the package; a checkout has them beside it.
    config.set_main_option(
        "script_location", str(packaged if packaged.is_dir() else packaged.parent.parent / "migrations")
    )
    return config


@cache
def revisions() -> Mapping[str, str]:
    """This version's revisions, first to last, each with what it brings."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return {script.revision: (script.doc or "").splitlines()[0] for script in reversed(list(scripts))}


async def current(db: Database) -> str | None:
    """The revision that the database is at; None if no migration ever ran here.

    Raises:
        SchemaUnusable: this version doesn't know it.
    """
    async with db.engine.connect() as connection:
        at = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    if at is not None and at not in revisions():
        raise SchemaUnusable(
            f"The database is at revision {at}, which this version doesn't know, as a newer one made it: run that one."
        )
    return at


async def course(db: Database, revision: str = "head", *, down: bool = False) -> tuple[str, ...]:
    """The revisions on the way from where the database is to ``revision``; none if it is there.

    Raises:
        SchemaUnusable: there is no such revision, or it lies the other way.
    """
    marks = ["base", *revisions()]
    wanted = marks[-1] if revision == "head" else revision
    if wanted not in marks:
        raise SchemaUnusable(
            f"{revision}: there is no such revision; write head, base, or one from {marks[1]} to {marks[-1]}."
        )
    at, to = marks.index(await current(db) or "base"), marks.index(wanted)
    if not down and to < at:
        raise SchemaUnusable(f"The database is at {marks[at]}, which is beyond {revision}; --down goes down to it.")
    if down and to > at:
        raise SchemaUnusable(f"The database is at {marks[at]}, which is below {revision}; leave --down out.")
    return tuple(reversed(marks[to + 1 : at + 1])) if down else tuple(marks[at + 1 : to + 1])


async def upgrade(db: Database, revision: str = "head", *, row_key: bytes | None = None) -> int:
    """Run the migrations up to ``revision``.

    Args:
        db: which database.
        revision: Alembic's name for it.
        row_key: authenticates rows that give rights and were written before they were authenticated; None will do if
            there can't be any.

    Returns:
        How many rows were authenticated on the way.

    Raises:
        SchemaUnusable: there is no such way.
    """
    await course(db, revision)
    attributes = await _run(db, lambda config: command.upgrade(config, revision), row_key)
    return int(attributes.get("authenticated", 0))


async def downgrade(db: Database, revision: str) -> None:
    """Run the migrations down to ``revision`` (``base`` for none).

    Raises:
        SchemaUnusable: there is no such way.
    """
    await course(db, revision, down=True)
    await _run(db, lambda config: command.downgrade(config, revision))


async def _run(db: Database, step: Callable[[Config], None], row_key: bytes | None = None) -> dict[Any, Any]:
    async with db.write_connection() as connection:

        def migrate(sync_connection: Connection) -> dict[Any, Any]:
            config = _config()
            config.attributes.update(connection=sync_connection, row_key=row_key)
            step(config)
            return config.attributes

        return await connection.run_sync(migrate)


@asynccontextmanager
async def alone(db: Database) -> AsyncIterator[None]:
    """Keep others from changing this database's schema, or from making its first master key.

    Waits for one who does.  The lock goes with its process: PostgreSQL's with the connection, SQLite's with a file
    beside the database.
    """
    async with AsyncExitStack() as stack:
        if db.file is None:
            connection = await db.dedicated("migration")
            stack.push_async_callback(connection.close, timeout=5)

            async def taken() -> bool:
                return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", _CHANGING))

        else:
            beside = db.file.with_name(db.file.name + ".migrating")
            keep_private(beside)
            file = stack.enter_context(beside.open("ab"))

            async def taken() -> bool:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

        await _until(taken)
        yield


async def _until(taken: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until the lock is taken.

    Statements that build indexes would wait for a session that waits within the server.
    """
    told = False
    while not await taken():
        if not told:
            _log.info("schema.waits", why="another process changes it")
            told = True
        await asyncio.sleep(_AGAIN_S)


async def check_encoding(db: Database) -> None:
    """Refuse a PostgreSQL database that can't hold every customer's name.

    Raises:
        SchemaUnusable: names the fix.
    """
    if db.dialect != "postgresql":
        return
    async with db.engine.connect() as connection:
        encoding = await connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise SchemaUnusable(
            f"BROKER_DATABASE_URL: this database's encoding is {encoding}, which can't hold every name; make one with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and move what is in this one by pg_dump."
        )


async def check(db: Database) -> None:
    """Refuse a schema of another version.

    On PostgreSQL also refuse an encoding that can't hold every name, or a role that row-level security doesn't bind.

    Raises:
        SchemaUnusable: names the fix.
    """
    await check_encoding(db)
    if missing := await course(db):
        raise SchemaUnusable(
            f"The database is at revision {await current(db)}, this version needs {missing[-1]}: run `broker migrate`."
        )
    if db.dialect == "postgresql":
        async with db.engine.connect() as connection:
            exempt = await connection.scalar(
                text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
            )
        if exempt:
            raise SchemaUnusable(
                "BROKER_DATABASE_URL: this role bypasses row-level security, the second fence between tenants; "
                "use a role that is neither superuser nor BYPASSRLS."
            )


async def has(db: Database, table: str) -> bool:
    """Whether a table of this name is there."""
    async with db.engine.connect() as connection:
        return await connection.run_sync(lambda sync: inspect(sync).has_table(table))


async def is_empty(db: Database) -> bool:
    """Whether no migration ever ran here."""
    return not await has(db, "alembic_version")
