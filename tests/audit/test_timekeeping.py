"""Whether a process's time is believed, compared with the system's, the database's and the record's."""

from __future__ import annotations

import pytest

from broker.audit.events import BROKER, Event
from broker.audit.log import AuditLog
from broker.audit.timekeeping import Timekeeping
from broker.base.clock import Millis, Timepiece, later
from broker.base.db import Database
from tests.support.world import WorldClock


class Process:
    """One process's timekeeping; ``clock`` is what a test does to its clocks."""

    def __init__(self, db: Database, *, wrong_by_hours: float = 0) -> None:
        self.clock = WorldClock()
        self.clock.jump(hours=wrong_by_hours)
        clocks = self.clock.clocks()
        self.time = Timepiece(clocks.system, clocks.steady)
        self.keeping = Timekeeping(db, self.time, clocks)

    @property
    def wrong(self) -> float:
        """How many hours its time is ahead of the world's."""
        return round((self.time() - self.clock()) / 3_600_000, 2)

    async def after(self, *, seconds: float = 0, hours: float = 0) -> str:
        self.clock.forward(seconds=seconds, hours=hours)
        return await self.keeping.look()


async def recorded(log: AuditLog, time: Millis) -> None:
    await log.append(Event(kind="audit.read", time=time, actor=BROKER))


@pytest.mark.parametrize("hours", [2, -2, 216])
async def test_a_jump_for_a_moment_is_seen_and_leaves_nothing_behind(db: Database, hours: float) -> None:
    process = Process(db)
    await process.keeping.begin()
    assert process.keeping.state == "ok"
    process.clock.jump(hours=hours)
    assert (await process.after(), await process.after(seconds=20), process.wrong) == ("system", "system", 0)
    process.clock.jump(hours=-hours)
    assert (await process.after(), process.wrong) == ("ok", 0)


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_jump_that_stands_is_followed_and_believed_an_hour_later(sqlite_url: str, hours: float) -> None:
    db = Database(sqlite_url)
    process = Process(db)
    await process.keeping.begin()
    process.clock.jump(hours=hours)
    assert (await process.after(), await process.after(seconds=590), process.wrong) == ("system", "system", 0)
    await process.after(seconds=20)
    assert (await process.after(), process.wrong) == ("unproven", hours)
    assert await process.after(hours=0.9) == "unproven"
    assert await process.after(hours=0.2) == "ok"
    await db.close()


async def test_a_jump_that_the_database_seconds_is_followed_after_a_minute(postgres_url: str) -> None:
    db = Database(postgres_url)
    process = Process(db)
    await process.keeping.begin()
    process.clock.jump(hours=2)
    process.clock.database_wrong = process.clock.wrong
    assert (await process.after(), await process.after(seconds=40), process.wrong) == ("system", "system", 0)
    await process.after(seconds=30)
    assert (await process.after(), process.wrong) == ("unproven", 2), "both may be of one machine"
    assert await process.after(hours=1.1) == "ok"
    await db.close()


async def test_a_jump_that_the_database_does_not_second_is_never_followed(postgres_url: str) -> None:
    db = Database(postgres_url)
    process = Process(db)
    await process.keeping.begin()
    process.clock.jump(hours=-2)
    assert (await process.after(), await process.after(hours=30), process.wrong) == ("system", "system", 0)
    await db.close()


async def test_a_database_whose_clock_alone_is_off_is_not_followed(postgres_url: str) -> None:
    db = Database(postgres_url)
    process = Process(db)
    await process.keeping.begin()
    for off in (90_000, -90_000):
        process.clock.database_wrong = off
        assert (await process.after(hours=2), process.wrong) == ("database", 0)
    process.clock.database_wrong = 50_000
    assert await process.after() == "ok"
    await db.close()


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_process_that_begins_with_a_wrong_clock_goes_by_the_databases(postgres_url: str, hours: float) -> None:
    db = Database(postgres_url)
    process = Process(db, wrong_by_hours=hours)
    await process.keeping.begin()
    assert (process.keeping.state, process.wrong) == ("system", 0)
    process.clock.jump(hours=-hours)
    assert (await process.after(), process.wrong) == ("ok", 0)
    await db.close()


async def test_a_record_that_is_ahead_counts_no_more_once_it_has_stood_for_an_hour(db: Database, log: AuditLog) -> None:
    process = Process(db)
    await recorded(log, later(process.time(), 50_000))
    await process.keeping.begin()
    assert process.keeping.state == "ok"
    day = 86_400_000
    await recorded(log, later(process.time(), 9 * day))
    assert (await process.after(), await process.after(hours=0.9)) == ("record", "record")
    # somebody still writes what is ahead
    await recorded(log, later(process.time(), 10 * day))
    assert await process.after(hours=0.2) == "record"
    # what is written now doesn't move it back, and needn't
    await recorded(log, process.time())
    assert (await process.after(hours=0.9), await process.after(hours=0.2)) == ("record", "ok")


async def test_a_process_that_begins_behind_the_record_lets_nothing_from_before_count(
    db: Database, log: AuditLog
) -> None:
    process = Process(db)
    await recorded(log, later(process.time(), 7_200_000))
    issued = process.time()
    process.clock.forward(seconds=1)
    await process.keeping.begin()
    assert process.keeping.state == "record"
    assert not process.time.counts(issued)
    assert process.time.counts(process.time())


async def test_after_a_silence_the_clock_has_to_go_evenly_for_an_hour(db: Database, log: AuditLog) -> None:
    """Nothing shows whether no broker ran for that long, or the clock is ahead."""
    process = Process(db)
    await process.keeping.begin()
    assert await process.after(hours=5) == "ok"

    async def begun(hours: float) -> Process:
        later = Process(db)
        later.clock.forward(hours=hours)
        await later.keeping.begin()
        return later

    assert (await begun(5.1)).keeping.state == "ok", "however little was recorded"
    for _ in range(2):
        later = await begun(216)
        assert later.keeping.state == "unproven", "also for whoever begins again"
        await recorded(log, later.time())
    assert (await later.after(hours=0.9), await later.after(hours=0.2)) == ("unproven", "ok")
    assert (await begun(217.2)).keeping.state == "ok"
