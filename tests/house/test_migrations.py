"""The migrations make what the tables declare, and go down again, on both databases."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

from broker import schema
from broker.base.db import Database
from broker.tables import METADATA


def drift(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA))


async def tables(db: Database) -> set[str]:
    async with db.engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_the_schema_does_not_drift_from_the_tables(db: Database) -> None:
    async with db.engine.connect() as connection:
        assert await connection.run_sync(drift) == []


async def test_down_removes_everything_and_up_brings_it_back(db: Database) -> None:
    await schema.downgrade(db, "base")
    assert await tables(db) <= {"alembic_version"}
    with pytest.raises(schema.SchemaUnusable, match="broker migrate"):
        await schema.check(db)
    await schema.upgrade(db)
    await schema.check(db)
    assert await tables(db) == {*METADATA.tables, "alembic_version"}


async def test_up_again_changes_nothing(db: Database) -> None:
    before = await tables(db)
    await schema.upgrade(db)
    assert await tables(db) == before
