"""A second look at guards: shared by those who look at once, and never older than its question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from broker.audit.guards import raise_epoch
from broker.audit.second_look import SecondLook
from broker.base.db import EVERY_TENANT, Database, DatabaseUnavailable
from tests.support.trips import counted as counted_trips


class _Counted:
    """The database, whose reads are counted, and wait until they are let go."""

    def __init__(self, db: Database) -> None:
        self.began = 0
        self.go = asyncio.Event()
        self.go.set()
        self._ask: Callable[..., Any] = db.ask

    async def ask(self, *query: Any) -> Any:
        self.began += 1
        await self.go.wait()
        return await self._ask(*query)


@pytest.fixture
def counted(db: Database, monkeypatch: pytest.MonkeyPatch) -> _Counted:
    counted = _Counted(db)
    monkeypatch.setattr(db, "ask", counted.ask)
    return counted


async def raised(db: Database, guard: str) -> None:
    async with db.write(EVERY_TENANT) as session:
        await raise_epoch(session, guard)


async def test_everybody_who_looks_while_a_query_runs_shares_the_next(db: Database, counted: _Counted) -> None:
    look = SecondLook(db)
    counted.go.clear()
    first = asyncio.create_task(look.epochs(["crd_0"]))
    while not counted.began:
        await asyncio.sleep(0)
    others = [asyncio.create_task(look.epochs([f"crd_{number}", "grt_1"])) for number in range(1, 50)]
    await asyncio.sleep(0)
    counted.go.set()
    assert await first == {"crd_0": 0}
    assert await asyncio.gather(*others) == [{f"crd_{number}": 0, "grt_1": 0} for number in range(1, 50)]
    assert counted.began == 2


async def test_what_is_raised_before_the_question_is_in_its_answer(db: Database, counted: _Counted) -> None:
    look = SecondLook(db)
    for _ in range(5):
        asked_before = asyncio.create_task(look.epochs(["crd_1"]))
        began = counted.began
        while counted.began == began:  # its query is under way, and may have read already
            await asyncio.sleep(0)
        before = (await look.epochs(["crd_1"]))["crd_1"]
        await raised(db, "crd_1")
        assert (await look.epochs(["crd_1"]))["crd_1"] not in {0, before}
        await asked_before


async def test_one_who_gives_up_ends_the_look_for_nobody_else(db: Database, counted: _Counted) -> None:
    look = SecondLook(db)
    counted.go.clear()
    gone, stays = (asyncio.create_task(look.epochs(["crd_1"])) for _ in range(2))
    while not counted.began:
        await asyncio.sleep(0)
    gone.cancel()
    counted.go.set()
    assert await stays == {"crd_1": 0}


async def test_a_database_that_is_away_is_everybodys_answer_and_the_next_look_is_a_new_one(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = SecondLook(db)
    with monkeypatch.context() as away:
        away.setattr(db, "ask", Mock(side_effect=ConnectionError))
        answers = await asyncio.gather(*(look.epochs(["crd_1"]) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ConnectionError] * 3
    assert await look.epochs(["crd_1"]) == {"crd_1": 0}


async def test_a_look_is_one_trip_and_no_server_that_takes_no_writes_is_asked(database_url: str) -> None:
    async with counted_trips(database_url) as (through, trips):
        db = Database(through)
        look = SecondLook(db)
        await look.epochs(["crd_1"])
        trips.since()
        await asyncio.gather(*(look.epochs([f"crd_{number}", "grt_1"]) for number in range(50)))
        assert trips.since() == 1
        if db.dialect == "postgresql":
            name = make_url(database_url).database
            async with db.engine.connect() as connection:
                await connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
                await connection.commit()
            await db.close()
            demoted = Database(through)
            with pytest.raises(DatabaseUnavailable):
                await SecondLook(demoted).epochs(["crd_1"])
            await demoted.close()
        await db.close()
