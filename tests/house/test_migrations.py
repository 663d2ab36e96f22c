"""The migrations make what the tables declare, and go down again, on both databases."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, select

from broker import schema
from broker.base.db import EVERY_TENANT, Database
from broker.credentials.tables import KeyEvidenceRow, VersionRow
from broker.tables import METADATA
from tests.support.world import World


def drift(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA))


async def tables(db: Database) -> set[str]:
    async with db.engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_the_schema_does_not_drift_from_the_tables(db: Database) -> None:
    async with db.engine.connect() as connection:
        assert await connection.run_sync(drift) == []


def test_no_table_has_a_foreign_key() -> None:
    assert [table.name for table in METADATA.tables.values() if table.foreign_keys] == []


async def test_down_removes_everything_and_up_brings_it_back(db: Database) -> None:
    await schema.downgrade(db, "base")
    assert await tables(db) <= {"alembic_version"}
    with pytest.raises(schema.SchemaUnusable, match="broker migrate"):
        await schema.check(db)
    await schema.upgrade(db)
    await schema.check(db)
    assert await tables(db) == {*METADATA.tables, "alembic_version"}


async def test_ids_of_an_organization_become_those_of_its_only_credentials_keys(world: World) -> None:
    """Where it has several credentials nobody knows which are whose, so their keys are asked again."""
    # given a database from before ids were kept by key
    await world.key_for("acme")
    globex = await world.key_for("globex")
    wanted = {"organization": "acme", "provider": "raptor-comply", "label": "second", "key": world.new_key("acme")}
    await world.call("POST", "/v1/credentials", status=201, json=wanted)
    await schema.downgrade(world.services.parts.db, "0007")
    # when it is brought up
    await schema.upgrade(world.services.parts.db, row_key=world.services.parts.keys.rows)
    # then
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        kept = list(await session.scalars(select(KeyEvidenceRow.credential_id)))
        due = list(await session.scalars(select(VersionRow.credential_id).where(VersionRow.next_probe_at == 0)))
    assert kept == [globex] * 3
    assert len(due) == 2
    assert globex not in due


async def test_up_again_changes_nothing(db: Database) -> None:
    before = await tables(db)
    await schema.upgrade(db)
    assert await tables(db) == before
