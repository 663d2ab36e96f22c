"""The periodic work is one process's at a time, and goes on whatever befalls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, select, text

from broker.base.db import EVERY_TENANT, Database
from broker.base.election import Election
from broker.base.listen import Listener
from broker.identity.tables import AssertionRow
from tests.support.databases import Postgres
from tests.support.processes import free_port
from tests.support.program import Program
from tests.support.waiting import eventually
from tests.support.world import World, running_world, settings_for, upstream


@pytest.fixture
async def candidates(postgres_url: str) -> AsyncIterator[list[Election]]:
    """Three processes that would do the work."""
    databases = [Database(postgres_url) for _ in range(3)]
    elections = [Election(db, 4711) for db in databases]
    yield elections
    for election, db in zip(elections, databases, strict=True):
        election.leave()
        await db.close()


async def test_one_process_works_and_another_takes_over_when_its_connection_is_gone(
    candidates: list[Election], prepared_postgres: Postgres
) -> None:
    one, two, three = candidates
    assert [await each.holds() for each in (one, two, three)] == [True, False, False]
    assert [await each.holds() for each in (three, two, one)] == [False, False, True]
    await prepared_postgres.admin(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objid = 4711"
    )
    await eventually(two.holds)
    assert await one.holds() is False, "who lost its place knows"
    two.leave()
    await eventually(three.holds)


async def test_on_sqlite_one_process_works_and_another_takes_over_once_it_has_left(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    one, two = Election(db, 1), Election(db, 1)
    assert [await each.holds() for each in (one, two, one)] == [True, False, True]
    one.leave()
    assert [await each.holds() for each in (two, one)] == [True, False]
    two.leave()
    await db.close()


async def test_options_of_the_address_that_are_for_the_pool_alone_hinder_neither_work_nor_messages(
    postgres_url: str,
) -> None:
    db = Database(f"{postgres_url}&prepared_statement_cache_size=0")
    election = Election(db, 4711)
    assert await election.holds()
    election.leave()
    await db.close()


async def test_an_error_that_nobody_expected_ends_neither_messages_nor_the_election(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(postgres_url)
    tries: list[str] = []
    original = db.dedicated

    async def at_first_broken(purpose: str) -> asyncpg.Connection:
        tries.append(purpose)
        if tries.count(purpose) == 1:
            raise TypeError
        return await original(purpose)

    monkeypatch.setattr(db, "dedicated", at_first_broken)
    # given a first try that fails as no database does
    election = Election(db, 4711)
    assert await election.holds() is False
    listener = Listener(db, "channel", lambda _told: None, lambda: None)
    listening = asyncio.create_task(listener.run())
    # then both try again
    try:
        assert await election.holds() is True
        await eventually(lambda: tries.count("news") > 1)
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        election.leave()
        await db.close()


async def test_a_piece_that_never_ends_does_not_hold_up_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    duties = world.broker.worker.duties
    monkeypatch.setattr("broker.worker._DUTY_S", 0.5)
    monkeypatch.setattr(duties["expire_links"], "run", for_ever)
    await world.key_for("acme")
    await world.broker.worker.once()
    assert duties["count"].counted == {("active", "healthy"): 1}


async def test_who_loses_the_work_shows_no_counts_of_the_past_and_counts_at_once_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.broker.worker
    keys, orphans = worker.duties["count"], worker.duties["sweep_orphans"]
    elected = True

    async def holds(_self: Election) -> bool:
        return elected

    monkeypatch.setattr(Election, "holds", holds)
    monkeypatch.setattr("broker.worker._STAND_BY_S", 0.02)
    monkeypatch.setattr("broker.worker._REST_S", 0.02)  # the same counts, in a hurry
    await world.key_for("acme")
    working = asyncio.create_task(worker.run())
    try:
        await eventually(lambda: keys.counted)
        elected = False
        await eventually(lambda: not keys.counted and not orphans.counted)
        elected = True
        await eventually(lambda: keys.counted)
    finally:
        working.cancel()
        await asyncio.wait({working})


async def test_an_assertion_is_remembered_for_a_day_longer_than_it_holds(world: World) -> None:
    job = await world.job()
    assert (await job.token()).status_code == 200
    for hours, known in ((23, 1), (2, 0)):
        await world.work(hours=hours)
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            assert await session.scalar(select(func.count()).select_from(AssertionRow)) == known


async def test_the_workers_duties_move_within_seconds_when_its_process_is_killed(
    tmp_path: Path, postgres_url: str
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, postgres_url, url)
        async with running_world(settings, state, url) as world:

            async def holder() -> int:
                async with world.services.parts.db.read(EVERY_TENANT) as session:
                    return await session.scalar(text(_HOLDER)) or 0

            more = {"BROKER_MASTER_KEY_FILE": str(settings.key_file()), "BROKER_LOG_LEVEL": "info"}

            def start(name: str) -> Program:
                directory = tmp_path / name
                directory.mkdir()
                return Program(directory, postgres_url, url, free_port(), more=more)

            with ExitStack() as programs:
                first = await asyncio.to_thread(start, "first")
                programs.callback(first.kill)
                before = await eventually(holder)
                second = await asyncio.to_thread(start, "second")
                programs.callback(second.kill)
                assert await holder() == before
                # when
                await asyncio.to_thread(first.kill)

                # then: the second works
                async def another() -> bool:
                    return await holder() not in {0, before}

                await eventually(another)
                await eventually(lambda: b"worker.elected" in second.log.read_bytes())


_HOLDER = """
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
