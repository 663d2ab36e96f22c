"""The record's own benchmark records whole uses, durably, and tells of each event."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import asyncpg
import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from broker.audit.tables import EventRow
from broker.base.db import EVERY_TENANT, Database
from broker.leases.tables import UseRow
from tests.bench import record
from tests.bench.load import Measured
from tests.bench.rounds import Rounds, Spread


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "WARM_UP_S", 0)


async def test_each_use_is_on_the_record_with_what_came_of_it_and_counts_as_two_events(database_url: str) -> None:
    measured = await record.recorded(database_url, callers=3, seconds=0.05)
    db = Database(database_url)
    async with db.read(EVERY_TENANT) as session:
        counted = await session.execute(select(EventRow.kind, func.count()).group_by(EventRow.kind))
        kinds = {row[0]: row[1] for row in counted}
        under_way = await session.scalar(select(func.count()).select_from(UseRow))
    await db.close()
    assert kinds["use.authorized"] == kinds["use.completed"]
    assert under_way == 0
    assert measured.rate > 0
    assert measured.cpu_us


async def test_the_floor_is_one_row_and_one_commit_by_the_driver(database_url: str) -> None:
    callers = max(record.FLOORS["sqlite" if "sqlite" in database_url else "postgres"])
    measured = await record.bare(database_url, callers, seconds=0.05)
    assert measured.rate > 0
    assert measured.cpu_us
    assert await rows(database_url)


async def rows(database_url: str) -> int:
    """How many bare ones there are."""
    if "sqlite" in database_url:
        with closing(sqlite3.connect(f"{make_url(database_url).database}.bare")) as file:
            return int(file.execute("SELECT count(*) FROM bare").fetchone()[0])
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        return int(await connection.fetchval("SELECT count(*) FROM bare"))
    finally:
        await connection.close()


def test_events_are_compared_with_the_floor_of_as_many_callers_in_the_same_round() -> None:
    def at(*rates: float) -> Rounds:
        return [Measured(rate, 1.0, 1.0, cpu_us=2.0) for rate in rates]

    measured = {
        f"record_{name}": at(1, 1)
        for kind, floors in record.FLOORS.items()
        for name in (*(f"floor_{floor}_{kind}" for floor in floors), *(f"{each}_{kind}" for each in record.CALLERS))
    }
    measured |= {"record_128_sqlite": at(30, 10), "record_floor_1_sqlite": at(3, 2)}
    measured |= {"record_1_postgres": at(6, 8), "record_128_postgres": at(60, 80)}
    measured |= {"record_floor_1_postgres": at(2, 4), "record_floor_32_postgres": at(3, 1)}
    figures = record.figures(measured)
    assert figures["record_128_sqlite_per_s"] == Spread(20, 10, 30)
    assert figures["record_128_sqlite_cpu_us"] == Spread(2, 2, 2)
    assert figures["record_128_sqlite_vs_floor"] == Spread(7.5, 5, 10)
    assert figures["record_1_postgres_vs_floor"] == Spread(2.5, 2, 3)
    assert figures["record_128_postgres_vs_floor"] == Spread(50, 20, 80)
