"""Readiness says what a use would meet, and a database that writes again is used again without a restart."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from broker.audit import durability
from broker.audit.log import AuditLog
from broker.audit.subjects import SubjectKeys
from broker.audit.tables import EventRow
from broker.base.db import EVERY_TENANT, Database
from broker.base.election import Election
from broker.base.listen import Listener
from tests.audit.test_log import event
from tests.support.databases import Postgres
from tests.support.waiting import eventually
from tests.support.world import World, running_world, settings_for, upstream


@asynccontextmanager
async def broker_on(database_url: str, directory: Path) -> AsyncIterator[tuple[World, dict[str, Any]]]:
    """A broker, and a lease to use a key with."""
    async with (
        upstream() as (state, url),
        running_world(settings_for(directory, database_url, url), state, url) as world,
    ):
        await world.key_for("acme")
        job = await world.job()
        await world.grant(job, "acme")
        yield world, await job.lease("acme")


async def ready(world: World) -> tuple[int, str]:
    """What monitoring and load balancers are told, which is the same of the database."""
    told, needed = [await world.http.get(path) for path in ("/readyz", "/readyz?need=database")]
    assert told.status_code == needed.status_code
    assert told.json()["database"] == needed.json()["database"]
    return told.status_code, told.json()["database"]


async def used(world: World, lease: dict[str, Any]) -> int:
    return (await world.proxied(lease, "/facilities")).status_code


def name_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


async def cut(postgres: Postgres, url: str) -> None:
    """End every session, as a server that hands over does."""
    await postgres.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(url)}'")


@asynccontextmanager
async def read_only(postgres: Postgres, url: str) -> AsyncIterator[None]:
    """New sessions only read, as on a replica; they stay as they began when that is over."""
    await postgres.admin(f"ALTER DATABASE {name_of(url)} SET default_transaction_read_only = on")
    await cut(postgres, url)
    yield
    await postgres.admin(f"ALTER DATABASE {name_of(url)} RESET default_transaction_read_only")


@contextmanager
def full_disk(url: str) -> Iterator[None]:
    """No file of this process grows beyond what the database's log has now."""
    size = Path(url.partition(":///")[2] + "-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_server_that_only_reads_is_not_ready_and_is_used_again_when_it_writes(
    postgres_url: str, prepared_postgres: Postgres, tmp_path: Path
) -> None:
    async with broker_on(postgres_url, tmp_path) as (world, lease):
        assert (await ready(world), await used(world, lease)) == ((200, "ok"), 200)
        # given a fail-over to a server that only reads
        async with read_only(prepared_postgres, postgres_url):
            assert (await ready(world), await used(world, lease)) == ((503, "read_only"), 503)
            async with asyncio.TaskGroup() as together:  # so that every connection of the pool has met it
                for _ in range(20):
                    together.create_task(world.http.get("/v1/organizations", headers=world.admin))
        # when it takes writes, then nothing has to be restarted
        await eventually(lambda: is_ready(world))
        assert await used(world, lease) == 200
        await world.organization("globex")


async def test_a_replica_is_not_ready_and_is_used_once_it_takes_over(
    postgres_url: str, prepared_postgres: Postgres, tmp_path: Path
) -> None:
    async with broker_on(postgres_url, tmp_path) as (world, lease):
        await asyncio.to_thread(prepared_postgres.demote)
        try:
            assert (await ready(world), await used(world, lease)) == ((503, "read_only"), 503)
        finally:
            await asyncio.to_thread(prepared_postgres.promote)
        await eventually(lambda: is_ready(world))
        assert await used(world, lease) == 200
        await world.organization("globex")


async def is_ready(world: World) -> bool:
    return (await world.http.get("/readyz")).status_code == 200


async def test_the_first_use_after_a_server_wrote_again_is_recorded(
    postgres_url: str, prepared_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(postgres_url)
    db.subjects = SubjectKeys(bytes(32))
    log = AuditLog(db, deadline=20)
    refused = asyncio.Event()
    monkeypatch.setattr(log.durability, "failed", refused.set)
    await log.start()
    async with read_only(prepared_postgres, postgres_url):
        waits = asyncio.create_task(log.append(event()))
        await refused.wait()
    assert (await waits).index == 0
    await log.stop()
    await db.close()


async def test_sessions_that_a_server_ended_are_replaced_at_once(
    postgres_url: str, prepared_postgres: Postgres, tmp_path: Path
) -> None:
    async with broker_on(postgres_url, tmp_path) as (world, lease):
        await cut(prepared_postgres, postgres_url)
        assert await used(world, lease) == 200
        await cut(prepared_postgres, postgres_url)
        assert await ready(world) == (200, "ok")
        await world.organization("globex")


async def test_a_server_without_space_is_not_ready_until_a_write_succeeds(postgres_url: str, tmp_path: Path) -> None:
    async with broker_on(postgres_url, tmp_path) as (world, lease):
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            for statement in _NO_SPACE:
                await session.execute(text(statement))
        assert await used(world, lease) == 503
        assert await ready(world) == (503, "disk_full")
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            await session.execute(text("DROP TRIGGER no_space ON audit_head"))
        await eventually(lambda: is_ready(world))
        assert await used(world, lease) == 200


_NO_SPACE = (
    """CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$""",
    "CREATE TRIGGER no_space BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION no_space()",
)


async def test_a_full_disk_is_not_ready_and_nothing_is_lost_by_it(sqlite_url: str, tmp_path: Path) -> None:
    async with broker_on(sqlite_url, tmp_path) as (world, lease):
        assert await used(world, lease) == 200
        before = await world.events()
        with full_disk(sqlite_url):
            assert await used(world, lease) == 503
            assert await ready(world) == (503, "disk_error")
        await eventually(lambda: is_ready(world))
        assert await used(world, lease) == 200
        assert len(await world.events()) > len(before)


async def test_a_full_disk_is_found_where_nothing_was_used_for_a_while(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "_SHOWN_S", 0)
    async with broker_on(sqlite_url, tmp_path) as (world, _):
        assert await ready(world) == (200, "ok")
        with full_disk(sqlite_url):
            assert await ready(world) == (503, "disk_error")
        await eventually(lambda: is_ready(world))


async def test_probes_write_nothing_while_commits_show_that_writes_succeed(log: AuditLog) -> None:
    await log.append(event())
    assert {await log.durability.state() for _ in range(20)} == {"ok"}
    assert log.durability.tried == 0


async def test_many_probes_try_one_write_which_is_no_event(db: Database, log: AuditLog) -> None:
    assert set(await asyncio.gather(*(log.durability.state() for _ in range(5)))) == {"ok"}
    assert {await log.durability.state() for _ in range(20)} == {"ok"}
    assert log.durability.tried == 1
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(func.count()).select_from(EventRow)) == 0


async def test_a_write_that_takes_longer_than_an_event_may_is_not_ready(db: Database) -> None:
    log = AuditLog(db, deadline=0.2)
    async with db.write(EVERY_TENANT) as session:
        if db.dialect == "postgresql":  # on SQLite the one writer is taken by now
            await session.execute(text("LOCK TABLE audit_head IN EXCLUSIVE MODE"))
        assert await log.durability.state() == "slow"
    await eventually(lambda: is_ok(log))
    await log.stop()


async def is_ok(log: AuditLog) -> bool:
    return await log.durability.state() == "ok"


async def test_nobody_does_the_periodic_work_over_a_server_that_only_reads(
    postgres_url: str, prepared_postgres: Postgres
) -> None:
    """Its lock counts on that server alone: another would be held on the one that took over."""
    db = Database(postgres_url)
    election = Election(db, 4711)
    assert await election.holds()
    async with read_only(prepared_postgres, postgres_url):
        assert not await election.holds()
        assert not await election.holds(), "nor is it elected there"
    assert await election.holds()
    election.leave()
    await db.close()


async def test_messages_are_not_awaited_from_a_server_that_only_reads(
    postgres_url: str, prepared_postgres: Postgres
) -> None:
    db = Database(postgres_url)
    missed: list[int] = []
    async with read_only(prepared_postgres, postgres_url):
        listener = Listener(db, "channel", lambda _told: None, lambda: missed.append(1))
        with pytest.raises(Exception, match="takes no writes"):
            await listener.listen()
    assert not missed
    await db.close()
