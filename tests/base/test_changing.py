"""A connection on which the schema is changed: it gives way to uses, and says who keeps it waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from broker.base.changing import Changing, is_locked
from broker.base.db import EVERY_TENANT, Database
from broker.base.faults import is_away

TAKE = text("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE")


@pytest.fixture
async def on_postgresql(postgres_url: str) -> AsyncIterator[Database]:
    db = Database(postgres_url)
    yield db
    await db.close()


async def test_a_transaction_gives_way_and_tells_whom(on_postgresql: Database) -> None:
    told: list[str] = []
    holder = await on_postgresql.dedicated("report")
    async with holder.transaction(), Changing(on_postgresql, 60, told.append).connection() as connection:
        await holder.execute("SELECT 1 FROM leases")
        with pytest.raises(Exception, match="lock timeout") as gave_way:
            async with connection.begin():
                await connection.execute(TAKE)
        assert is_locked(gave_way.value)
        (said,) = told
        assert said.startswith(f"process {holder.get_server_pid()} (keybroker report, role broker_app, idle in trans")
    await holder.close()


async def test_another_fault_is_no_lock(on_postgresql: Database) -> None:
    async with Changing(on_postgresql, 60, print).connection() as connection:
        with pytest.raises(Exception, match="division by zero") as fault:
            await connection.execute(text("SELECT 1 / 0"))
        assert not is_locked(fault.value)
        assert not is_away(fault.value)


async def test_a_statement_has_no_limit_of_time_and_sees_every_tenant(
    on_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {}
    connect = asyncpg.connect

    async def remembered(**given: Any) -> asyncpg.Connection:
        limits[given["server_settings"]["application_name"]] = given["command_timeout"]
        return await connect(**given)

    monkeypatch.setattr(asyncpg, "connect", remembered)
    async with Changing(on_postgresql, 60, print).connection() as connection:
        assert await connection.scalar(text("SHOW statement_timeout")) == "0"
        assert await connection.scalar(text("SHOW broker.tenants")) == EVERY_TENANT.setting()
    assert limits["keybroker schema"] is None


async def test_on_sqlite_others_write_after_it(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    assert db.writer is not None
    async with Changing(db, 60, print).connection() as connection, connection.begin():
        await connection.execute(text("CREATE TABLE new (id TEXT)"))
        assert connection.get_transaction() is not None
    async with db.write_connection() as connection:
        await connection.execute(text("INSERT INTO new VALUES ('a')"))
    await db.close()
