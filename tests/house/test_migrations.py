"""The migrations make what the tables declare, and go down again, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from broker import schema
from broker.base.db import Database
from broker.tables import METADATA
from tests.support.commands import MINIMAL, run
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


@pytest.mark.parametrize("words", [("migrate",), ("doctor",), ("serve",)], ids=" ".join)
async def test_a_database_from_before_the_first_release_is_refused_with_what_to_do(
    tmp_path: Path, database_url: str, words: tuple[str, ...]
) -> None:
    db = Database(database_url)
    async with db.write_connection() as connection:
        await connection.execute(text(f"ALTER TABLE {schema.VERSION_TABLE} RENAME TO alembic_version"))
    await db.close()
    environment = {**MINIMAL, "BROKER_STATE_DIR": str(tmp_path / "state"), "BROKER_DATABASE_URL": database_url}
    refused = run(*words, environment=environment)
    assert refused.returncode == 1
    assert refused.stderr.decode().startswith("error: The database has alembic_version, so a version from before")
    assert b"name a new, empty database" in refused.stderr
    assert not [*tmp_path.glob("**/master-keys*")]


async def test_another_programs_table_of_that_name_beside_is_no_matter(db: Database) -> None:
    async with db.write_connection() as connection:
        await connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
    await schema.check(db)
