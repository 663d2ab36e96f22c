"""Bring a database to the schema of this version (Alembic), and say whether it is there.

Going up is made for a database that is in use: each revision is a transaction of its own, which gives way to uses and
is tried again.  What is done stays, so an interrupted run is gone on with.  Going down is one transaction, with the
brokers stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cache, partial
from pathlib import Path
from random import uniform
from time import monotonic
from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.base import faults
from broker.base.changing import Changing, is_locked
from broker.base.db import Database
from broker.base.sqlite import keep_private

# Says at which revision a database is.
VERSION_TABLE: Final = "schema_version"
# Said so before the first release, by revisions from which none leads on.
_VERSION_TABLE_BEFORE: Final = "alembic_version"

_log = structlog.get_logger()
# The advisory lock of whoever changes the schema; any number that nobody else takes.
_CHANGING = 0x6B65_795F_7363_686D
_AGAIN_S = 0.2
# A revision that doesn't get its locks is given up after so long, and tried again after pauses that double.
_PATIENCE_S: Final = 600
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10


class SchemaUnusable(Exception):
    """The database's schema or role is not one that this version may run on; names the fix."""


def configuration() -> Config:
    """Where Alembic finds the revisions."""
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
    scripts = ScriptDirectory.from_config(configuration()).walk_revisions()
    return {script.revision: (script.doc or "").splitlines()[0] for script in reversed(list(scripts))}


async def current(db: Database) -> str | None:
    """The revision that the database is at; None if no migration ever ran here.

    Raises:
        SchemaUnusable: this version doesn't know it.
    """
    await _refuse_before_first_release(db)
    async with db.engine.connect() as connection:
        at = await connection.run_sync(lambda sync: _context(sync).get_current_revision())
    if at is not None and at not in revisions():
        raise SchemaUnusable(
            f"The database is at revision {at}, which this version doesn't know, as a newer one made it: run that one."
        )
    return at


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})


async def _refuse_before_first_release(db: Database) -> None:
    if await has(db, _VERSION_TABLE_BEFORE) and not await has(db, VERSION_TABLE):
        raise SchemaUnusable(
            f"The database has {_VERSION_TABLE_BEFORE}, so a version from before the first release made it (or another "
            "program), and no revision leads on from there: name a new, empty database, and bring customers' keys in "
            "again. What is in this one is read by the version that made it."
        )


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


async def upgrade(db: Database, revision: str = "head", *, patience_s: float = _PATIENCE_S) -> None:
    """Run the migrations up to ``revision``, one by one, beside uses.

    Args:
        db: which database.
        revision: Alembic's name for it.
        patience_s: seconds for which one of them waits, in all, for what others lock.

    Raises:
        SchemaUnusable: there is no such way, others held a lock all the time, or the database went away.
    """
    steps = await course(db, revision)
    # Nobody waits for an empty database, nor has to know by which steps it was made.
    tell = _log.debug if steps[:1] == (next(iter(revisions())),) else _log.info
    for step in steps:
        begun = monotonic()
        tell("schema.upgrading", revision=step, brings=revisions()[step])
        with _explained(step):
            await _patiently(db, step, partial(_up, revision=step), patience_s)
        tell("schema.upgraded", revision=step, seconds=round(monotonic() - begun, 1))


async def downgrade(db: Database, revision: str) -> None:
    """Run the migrations down to ``revision`` (``base`` for none); all or none of them.

    Raises:
        SchemaUnusable: there is no such way, others held a lock all the time, or the database went away.
    """
    if await course(db, revision, down=True):
        with _explained(revision):
            await _patiently(db, revision, partial(_down, revision=revision), _PATIENCE_S)


async def _up(connection: AsyncConnection, *, revision: str) -> None:
    await connection.run_sync(_alembic, command.upgrade, revision)


async def _down(connection: AsyncConnection, *, revision: str) -> None:
    async with connection.begin():
        await connection.run_sync(_alembic, command.downgrade, revision)


def _alembic(connection: Connection, step: Callable[[Config, str], None], revision: str) -> None:
    config = configuration()
    config.attributes.update(connection=connection)
    step(config, revision)


async def _patiently(
    db: Database, revision: str, change: Callable[[AsyncConnection], Awaitable[None]], patience_s: float
) -> None:
    """Try ``change`` until it gets its locks.

    Raises:
        SchemaUnusable: others held one all the time; names them if the server does.
    """
    begun, pause_s = monotonic(), _FIRST_PAUSE_S

    def tell(holders: str) -> None:
        _log.info("schema.waits", revision=revision, seconds=round(monotonic() - begun), holds=holders)

    changing = Changing(db, patience_s, tell)
    while True:
        try:
            async with changing.connection() as connection:
                return await change(connection)
        except Exception as error:
            if not is_locked(error):
                raise
        if monotonic() - begun >= patience_s:
            raise SchemaUnusable(
                f"Revision {revision} was given up after {monotonic() - begun:.0f} s, as others lock what it changes: "
                f"{changing.waiting.last or 'the server does not say who'}. Have them end (as by SELECT "
                "pg_terminate_backend(PROCESS)), and run `broker migrate` again: it goes on there."
            )
        # Not in step with others who try again.
        await asyncio.sleep(pause_s * uniform(1, 2))  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@contextmanager
def _explained(revision: str) -> Iterator[None]:
    """Say of a database that went away what became of the schema."""
    try:
        yield
    except Exception as error:
        if not faults.is_away(error):
            raise
        raise SchemaUnusable(
            f"The database went away on the way to revision {revision}: {faults.said(error)}. What was done before "
            "stays: run `broker migrate` again, and it goes on there."
        ) from error


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
    """Whether no migration ever ran here.

    Raises:
        SchemaUnusable: one of a version from before the first release did.
    """
    await _refuse_before_first_release(db)
    return not await has(db, VERSION_TABLE)
