"""Bring a database to the schema of this version (Alembic), and say whether it is there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from broker.base.db import Database


class SchemaUnusable(Exception):
    """The database's schema or role is not one that this version may run on; names the mend."""


def _config() -> Config:
    packaged = Path(__file__).parent / "_migrations"
    config = Config()
    # The wheel carries the migrations inside the package; a checkout has them beside it.
    config.set_main_option(
        "script_location", str(packaged if packaged.is_dir() else packaged.parent.parent / "migrations")
    )
    return config


async def upgrade(db: Database, revision: str = "head") -> None:
    """Run the migrations up to ``revision``."""
    await _run(db, lambda config: command.upgrade(config, revision))


async def downgrade(db: Database, revision: str) -> None:
    """Run the migrations down to ``revision`` (``base`` for none)."""
    await _run(db, lambda config: command.downgrade(config, revision))


async def _run(db: Database, step: object) -> None:
    assert callable(step)
    async with db.write_connection() as connection:

        def migrate(sync_connection: Connection) -> None:
            config = _config()
            config.attributes["connection"] = sync_connection
            step(config)

        await connection.run_sync(migrate)


async def check(db: Database) -> None:
    """Refuse a schema of another version, and on PostgreSQL a role that row-level security doesn't bind.

    Raises:
        SchemaUnusable: names the mend.
    """
    async with db.engine.connect() as connection:
        current = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
        head = ScriptDirectory.from_config(_config()).get_current_head()
        if current != head:
            raise SchemaUnusable(
                f"The database is at revision {current}, this version needs {head}: run `broker migrate`."
            )
        if db.dialect == "postgresql":
            exempt = await connection.scalar(
                text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
            )
            if exempt:
                raise SchemaUnusable(
                    "BROKER_DATABASE_URL: this role bypasses row-level security, the second fence between tenants; "
                    "use a role that is neither superuser nor BYPASSRLS."
                )


async def is_empty(db: Database) -> bool:
    """Whether no migration ever ran here."""
    async with db.engine.connect() as connection:
        return not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version"))
