"""Alembic's environment: runs on the connection that ``broker.schema`` hands over, or on BROKER_DATABASE_URL."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from broker import config
from broker.base.changing import Changing
from broker.base.db import Database
from broker.schema import VERSION_TABLE
from broker.tables import METADATA


def run(connection: Connection) -> None:
    """Migrate on ``connection``: in its transaction, or in one a revision if it has none."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        version_table=VERSION_TABLE,
        transaction_per_migration=True,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_on_settings() -> None:
    """For the ``alembic`` command itself."""
    db = Database(config.load().database())
    async with Changing(db, 60, print).connection() as connection:
        await connection.run_sync(run)
    await db.close()


handed_over = context.config.attributes.get("connection")
if handed_over is None:
    asyncio.run(run_on_settings())
else:
    run(handed_over)
