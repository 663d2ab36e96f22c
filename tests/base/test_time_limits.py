"""How long a statement may take: whoever asked is told so, and periodic work has a limit and connections of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.base.db import EVERY_TENANT, Database, DatabaseSlow
from broker.base.faults import is_away
from broker.base.reader import PostgresReader
from tests.support.waiting import eventually
from tests.support.world import running_world, settings_for, upstream

SLEEP = "SELECT pg_sleep(60)"


@pytest.fixture
async def hasty(postgres_url: str) -> AsyncIterator[Database]:
    """A database whose statements have a moment only."""
    db = Database(postgres_url, longest_s=0.5)
    yield db
    await db.close()


async def in_read(db: Database) -> None:
    async with db.read(EVERY_TENANT) as session:
        await session.execute(text(SLEEP))


async def in_write(db: Database) -> None:
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text(SLEEP))


async def in_connection(db: Database) -> None:
    async with db.write_connection() as connection:
        await connection.execute(text(SLEEP))


async def in_transact(db: Database) -> None:
    await db.transact(lambda transaction: transaction.rows(SLEEP), record=False)


WAYS: Mapping[str, Callable[[Database], Awaitable[None]]] = {
    "read": in_read,
    "write": in_write,
    "connection": in_connection,
    "transact": in_transact,
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_statement_that_takes_too_long_is_told_as_such(hasty: Database, way: str) -> None:
    with pytest.raises(DatabaseSlow) as told:
        await WAYS[way](hasty)
    assert (told.value.status, told.value.code) == (503, "database_unavailable")
    assert "did not answer in time; nothing was changed" in told.value.public
    assert is_away(told.value), "the same may succeed later"


async def test_so_is_a_query_without_a_session(hasty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def late(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(PostgresReader, "rows", late)
    with pytest.raises(DatabaseSlow):
        await hasty.ask({"postgresql": "SELECT 1"})


async def test_of_a_commit_that_takes_too_long_nobody_says_that_nothing_was_changed(hasty: Database) -> None:
    async with hasty.write_connection() as connection:
        for statement in _SLOW_COMMITS:
            await connection.execute(text(statement))
    with pytest.raises(DatabaseSlow) as told:
        async with hasty.write(EVERY_TENANT) as session:
            await session.execute(text("INSERT INTO slow VALUES (1)"))
    assert "whether this was done is not known" in told.value.public


_SLOW_COMMITS = (
    "CREATE TABLE slow (id int)",
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'",
    (
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait()"
    ),
)


async def test_a_request_whose_statement_takes_too_long_is_a_503_with_a_code(tmp_path: Path, postgres_url: str) -> None:
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, postgres_url, url), state, url) as world,
    ):
        await world.key_for("acme")
        db, hasty = world.services.parts.db, Database(postgres_url, longest_s=0.5)
        async with db.write_connection() as connection:
            slow = "CREATE POLICY slow ON credentials AS RESTRICTIVE USING (pg_sleep(60) IS NOT NULL)"
            await connection.execute(text(slow))
        before, db.engine = db.engine, hasty.engine
        try:
            refused = await world.http.get("/v1/credentials", headers=world.admin)
        finally:
            db.engine = before
            await hasty.close()
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert (refused.json()["code"], refused.headers["retry-after"]) == ("database_unavailable", "2")


async def test_work_that_nobody_waits_for_has_a_limit_and_connections_of_its_own(hasty: Database) -> None:
    beside = hasty.beside(2, longest_s=3600)
    async with beside.read(EVERY_TENANT) as session:
        await session.execute(text("SELECT pg_sleep(0.8)"))
    # given more such work than there are connections for it
    go, at_work = asyncio.Event(), 0

    async def work() -> None:
        nonlocal at_work
        async with beside.write(EVERY_TENANT) as session:
            await session.execute(text("SELECT 1"))
            at_work += 1
            await go.wait()

    working = [asyncio.create_task(work()) for _ in range(50)]
    await eventually(lambda: at_work == 2)
    # then requests have all of theirs
    async with asyncio.TaskGroup() as requests:
        for _ in range(5):
            requests.create_task(_ask(hasty))
    assert at_work == 2, "a few at a time"
    go.set()
    await asyncio.gather(*working)
    assert at_work == 50


async def _ask(db: Database) -> None:
    async with db.read(EVERY_TENANT) as session:
        await session.execute(text("SELECT 1"))


async def test_on_sqlite_a_few_at_a_time_wait_for_the_one_writer_whatever_work_there_is(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    beside = db.beside(3, longest_s=3600)
    assert db.writer is not None
    assert beside.writer is db.writer
    done: list[str] = []

    async def write(of: Database, who: str) -> None:
        async with of.write(EVERY_TENANT) as session:
            await session.execute(text("DELETE FROM idempotency"))
            done.append(who)

    async with asyncio.TaskGroup() as everybody, db.writer.turn():
        for _ in range(20):
            everybody.create_task(write(beside, "worker"))
        await eventually(lambda: db.writer is not None and db.writer.waiting(record=False) == 3)
        everybody.create_task(write(db, "request"))
        await eventually(lambda: db.writer is not None and db.writer.waiting(record=False) == 4)
    assert done.index("request") == 3
    assert done.count("worker") == 20
    await db.close()
