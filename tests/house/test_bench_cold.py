"""Cold leases: nobody is asked for twice, and each is issued, over rights as good as the broker's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.bench import cold, population
from tests.bench.load import Measured
from tests.support.databases import Postgres
from tests.support.world import World


def test_nobody_is_asked_for_twice() -> None:
    for size in (100, 10_000):
        slugs = population.drawn(size, 5_000)
        subjects = cold.Subjects.of(slugs, 3)
        asked = [*subjects.warm, *subjects.counted, *(slug for each in subjects.walks for slug in each)]
        assert len(set(asked)) == len(asked) > 0.97 * len(slugs)
        assert len(subjects.walks) == 3
        assert len(subjects.warm) == len(subjects.counted) == min(size // 10, 200)


def test_leases_are_issued_over_copied_organizations(tmp_path: Path) -> None:
    figures = cold.on("sqlite", tmp_path, {20: None}, seconds=20, rounds=2)
    assert figures["cold_lease_20_sqlite_walked"] == 16
    assert {f"cold_lease_20_sqlite_{what}" for what in ("per_s", "cpu_us", "memory_growth_mb")} <= figures.keys()


async def test_copied_rights_are_the_brokers_own_once_they_are_authenticated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(population, "AT_ONCE", 2)
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    where = world.settings.state_dir, world.settings.database()
    await population.populate(*where, 3)
    await population.authenticate(*where, ["n2", "n3"])
    assert [(await job.ask(slug)).status_code for slug in ("n1", "n2", "n3")] == [403, 201, 201]


def test_each_statement_that_is_sent_counts(prepared_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "IDLE_S", 0.1)

    async def ask() -> Measured:
        connection = await asyncpg.connect(host=prepared_postgres.socket, user="postgres", database="postgres")
        for number in range(5):
            async with connection.transaction():
                await connection.fetchval("SELECT $1::int", number)
        await connection.close()
        return Measured(5.0, 1.0, 1.0, answers=5)

    assert cold.statements_of_each(prepared_postgres, lambda: asyncio.run(ask())) == 3
