"""The migrations make what the tables declare, and go down again, on both databases."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

from broker import schema
from broker.base.db import Database
from broker.tables import METADATA
from tests.support.databases import is_month


def drift(connection: Connection) -> list[object]:
    opts = {"compare_type": True, "include_name": is_declared, "version_table": schema.VERSION_TABLE}
    return list(compare_metadata(MigrationContext.configure(connection, opts=opts), METADATA))


def is_declared(name: str | None, kind: str, _: object) -> bool:
    """Months of the record have the columns and indexes of the whole."""
    return kind != "table" or not is_month(name or "")


async def tables(db: Database) -> set[str]:
    async with db.engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return {name for name in names if not is_month(name)}


async def test_the_schema_does_not_drift_from_the_tables(db: Database) -> None:
    async with db.engine.connect() as connection:
        assert await connection.run_sync(drift) == []


def test_no_table_has_a_foreign_key() -> None:
    assert [table.name for table in METADATA.tables.values() if table.foreign_keys] == []


async def test_down_removes_everything_and_up_brings_it_back(db: Database) -> None:
    await schema.downgrade(db, "base")
    assert await tables(db) <= {schema.VERSION_TABLE}
    with pytest.raises(schema.SchemaUnusable, match="broker migrate"):
        await schema.check(db)
    await schema.upgrade(db)
    await schema.check(db)
    assert await tables(db) == {*METADATA.tables, schema.VERSION_TABLE}


async def test_up_again_changes_nothing(db: Database) -> None:
    before = await tables(db)
    await schema.upgrade(db)
    assert await tables(db) == before
