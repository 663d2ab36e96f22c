"""The periodic work is one process's at a time, and goes on whatever befalls it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, select, text

from broker.audit.timekeeping import Timekeeping
from broker.base.db import EVERY_TENANT, Database
from broker.base.election import Election
from broker.base.listen import Listener
from broker.identity.tables import AssertionRow
from broker.worker import parts_of_worker
from tests.support.databases import Postgres
from tests.support.processes import free_port
from tests.support.program import Program
from tests.support.sent import noted
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
    monkeypatch.setattr("broker.worker.DUTY_S", 0.5)
    monkeypatch.setattr(duties["expire_links"], "run", for_ever)
    await world.key_for("acme")
    await world.broker.worker.once()
    assert duties["count"].counted == {("active", "healthy"): 1}


async def test_each_duty_has_a_loop_of_its_own_so_an_upstream_that_hangs_holds_up_no_expiry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.broker.worker
    monkeypatch.setattr("broker.worker.REST_S", 0.02)
    begun, turns = asyncio.Event(), 0

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def expire() -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr(worker.duties["check_health"], "run", hang)
    monkeypatch.setattr(worker.duties["expire_links"], "run", expire)
    working = asyncio.create_task(worker.run())
    try:
        await begun.wait()
        await eventually(lambda: turns > 3)
        assert worker.round_at == 0, "monitoring sees that one has not had its turn"
    finally:
        working.cancel()
        await asyncio.wait({working})


async def test_nobody_begins_what_can_not_be_undone_before_it_is_known_whether_it_has_to_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, done = world.broker.worker, asyncio.Event()
    monkeypatch.setattr("broker.worker.REST_S", 0.02)
    monkeypatch.setattr("broker.worker.LOOK_S", 0.02)
    looks = 0

    async def look(_self: Timekeeping) -> str:
        nonlocal looks
        looks += 1
        assert not done.is_set()
        await asyncio.sleep(0)
        return "system"

    async def expire() -> None:
        done.set()

    monkeypatch.setattr(Timekeeping, "look", look)
    monkeypatch.setattr(worker.duties["expire_links"], "run", expire)
    working = asyncio.create_task(worker.run())
    try:
        await eventually(lambda: looks > 5 and worker.round_at)
    finally:
        working.cancel()
        await asyncio.wait({working})
    assert not done.is_set()


async def test_however_much_periodic_work_is_due_uses_go_on_beside_it(world: World) -> None:
    # given fifty pieces of work that came due together, each in a transaction of its own that doesn't end
    job = await world.job()
    await world.key_for("acme")
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    own = parts_of_worker(world.services.parts).db
    go, begun = asyncio.Event(), 0

    async def piece() -> None:
        nonlocal begun
        async with own.read(EVERY_TENANT) as session:
            await session.execute(text("SELECT 1"))
            begun += 1
            await go.wait()

    pieces = [asyncio.create_task(piece()) for _ in range(50)]
    await eventually(lambda: begun == 4)
    # when jobs call, and operators look
    called = await asyncio.gather(*(world.proxied(lease, "/facilities") for _ in range(20)))
    await asyncio.gather(*(world.items("/v1/credentials") for _ in range(20)))
    # then nobody waits for that work, of which a few go at once
    assert {answer.status_code for answer in called} == {200}
    assert begun == 4
    go.set()
    await asyncio.gather(*pieces)
    assert begun == 50


async def test_the_duties_have_no_connection_of_the_requests(world: World) -> None:
    await world.key_for("acme")
    await world.request_key("acme", label="other")
    world.clock.forward(hours=24 * 400)
    db = world.services.parts.db
    for name, duty in world.broker.worker.duties.items():
        with noted(db) as sent:
            await duty.run()
        # Clocks, and what is kept of the record elsewhere, are compared beside it.
        assert [each for each, _ in sent if re.search("(FROM|INTO|UPDATE) (?!audit_|clock_)", each)] == [], name


async def test_who_loses_the_work_shows_no_counts_of_the_past_and_counts_at_once_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.broker.worker
    keys, orphans = worker.duties["count"], worker.duties["sweep_orphans"]
    elected = True

    async def holds(_self: Election) -> bool:
        return elected

    monkeypatch.setattr(Election, "holds", holds)
    monkeypatch.setattr("broker.worker.STAND_BY_S", 0.02)
    monkeypatch.setattr("broker.worker.REST_S", 0.02)  # the same counts, in a hurry
    monkeypatch.setattr("broker.worker.LOOK_S", 0.02)
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
