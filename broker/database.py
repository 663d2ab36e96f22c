"""A deployment's database, brought to this version's schema and found to be the newest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, column, func, select, table

from broker import keystore_setup, schema
from broker.audit.heads import HeadFile, Heads
from broker.audit.tables import SeriesRow
from broker.base.clock import Clock, now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.base.parent import Parent
from broker.base.sqlite import keep_private
from broker.config import Settings
from broker.keystore import internal
from broker.keystore.vault.heads import HeadInVault
from broker.keystore_setup import Keystores


def open_database(settings: Settings, parent: Parent | None = None) -> Database:
    """The database of these settings.

    SQLite's file is the owner's alone, and its default folder is made.  ``parent`` writes to it, if this is one of
    several processes.
    """
    if settings.database_url is None:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = Database(settings.database(), parent=parent)
    if db.file is not None:
        keep_private(db.file)
    return db


@dataclass(frozen=True, slots=True)
class Descent:
    """What a way down to an older schema would take.

    Attributes:
        name: the database's.
        revisions: those that are undone, in order, each with what it brought.
        held: how many organizations, keys, jobs and events are in the database.
    """

    name: str
    revisions: Mapping[str, str]
    held: Mapping[str, int]


_HELD: Final = {"organizations": "organizations", "keys": "credential_versions", "jobs": "workloads"}


async def descent(settings: Settings, revision: str) -> Descent:
    """What ``migrate`` down to ``revision`` would take; changes nothing.

    Raises:
        SchemaUnusable: there is no such way.
    """
    db = open_database(settings)
    try:
        brought = schema.revisions()
        steps = {step: brought[step] for step in await schema.course(db, revision, down=True)}
        held = {what: await _count(db, name, func.count()) for what, name in _HELD.items()}
        held["events"] = await _count(db, "audit_head", func.max(column("size")))
        return Descent(Path(db.engine.url.database or "").name, steps, held)
    finally:
        await db.close()


async def _count(db: Database, name: str, number: ColumnElement[int]) -> int:
    if not await schema.has(db, name):
        return 0
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(number).select_from(table(name))) or 0


async def migrate(settings: Settings, revision: str = "head", *, down: bool = False, restored: bool = False) -> None:
    """Bring the database to a revision, its keystores opened first.

    Of several that come at once, one does it and the rest wait.  ``restored`` is True if an operator says that the
    database was restored from a backup.

    Raises:
        SchemaUnusable, MasterKeysUnusable, DatabaseBehind, Unreadable: names the fix.
    """
    db = open_database(settings)
    try:
        await schema.check_encoding(db)
        async with schema.alone(db):
            if down:
                await schema.downgrade(db, revision)
                return
            # The first migration is the moment at which a missing key file is no loss.
            may_create = settings.database_url is None and await schema.is_empty(db)
            async with keystore_setup.opened(settings, db, now_ms, may_create=may_create) as opened:
                await _upgrade(settings, db, opened, now_ms, revision, restored=restored)
    finally:
        await db.close()


@asynccontextmanager
async def prepared(settings: Settings, db: Database, clock: Clock) -> AsyncIterator[Keystores]:
    """Check the database and open the keystores.

    The embedded SQLite is brought up to date first.

    Raises:
        SchemaUnusable, MasterKeysUnusable: names the fix.
    """
    if db.dialect != "sqlite":
        await schema.check(db)
        async with keystore_setup.opened(settings, db, clock, may_create=False) as opened:
            yield opened
        return
    async with AsyncExitStack() as stack:
        async with schema.alone(db):
            # The first start is the moment at which a missing key file is no loss.
            fresh = await schema.is_empty(db)
            opened = await stack.enter_async_context(keystore_setup.opened(settings, db, clock, may_create=fresh))
            await schema.upgrade(db)
        yield opened


def heads(settings: Settings, db: Database, opened: Keystores, keys: internal.InternalKeys) -> Heads:
    """What is kept outside of the database about how far its record was."""
    name = keys.database_id
    shared = None if opened.values is None else HeadInVault(opened.values, name)
    return Heads(db, HeadFile(settings.state_dir / "heads", name), shared)


async def _upgrade(
    settings: Settings, db: Database, opened: Keystores, clock: Clock, revision: str, *, restored: bool
) -> None:
    """Bring the database to a revision, unless it was restored from a backup and nobody says so."""
    if not restored and await schema.has(db, internal.InternalKeyRow.__tablename__):
        keys = await internal.load(db, keystore_setup.in_force(settings, opened), clock())
        has_series = await schema.has(db, SeriesRow.__tablename__)
        await heads(settings, db, opened, keys).check(has_series=has_series)
    await schema.upgrade(db, revision)
