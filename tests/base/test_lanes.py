"""Lanes: much that is due is worked on page by page, each lane as fast as its upstream answers."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from broker.base.lanes import FEW, MOST, Lanes


class Upstream:
    """Rows that wait in some lanes, and how many of each were asked about at once."""

    def __init__(self, **waiting: int) -> None:
        self.waiting = {name: [f"{name}-{number}" for number in range(count)] for name, count in waiting.items()}
        self.silent: set[str] = set()
        self.stuck: set[str] = set()
        self.broken: set[str] = set()
        self.hanging: dict[str, asyncio.Event] = {}
        self.pages: list[int] = []
        self.asked: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def pull(self, name: str, limit: int) -> list[str]:
        self.pages.append(limit)
        return self.waiting[name][:limit]

    async def work(self, row: str) -> bool:
        name = row.partition("-")[0]
        self.asked[name] += 1
        self.now[name] += 1
        self.most[name] = max(self.most[name], self.now[name])
        if name in self.hanging:
            await self.hanging[name].wait()
        await asyncio.sleep(0)
        self.now[name] -= 1
        if row not in self.stuck:
            self.waiting[name].remove(row)
        if row in self.broken:
            raise RuntimeError
        return name not in self.silent

    def lanes(self, **more: float) -> Lanes[str]:
        return Lanes(self.pull, self.work, str, **more)


async def test_all_that_is_due_is_worked_on_a_page_at_a_time() -> None:
    upstream = Upstream(fast=2_000)
    await upstream.lanes().run(["fast"])
    assert upstream.waiting["fast"] == []
    assert upstream.asked["fast"] == 2_000
    assert max(upstream.pages) == 4 * MOST, "no more is held in memory"


async def test_who_answers_is_asked_about_more_at_once_and_who_does_not_about_fewer() -> None:
    upstream = Upstream(fast=2_000)
    lanes = upstream.lanes()
    await lanes.run(["fast"])
    assert upstream.most["fast"] == MOST
    upstream.waiting["fast"] = [f"fast-{number}" for number in range(2_000)]
    upstream.silent.add("fast")
    for at_once in (MOST, MOST // 2, MOST // 4):
        upstream.most.clear()
        await lanes.run(["fast"])
        assert upstream.most["fast"] == at_once, "and then the rest waits"


async def test_a_lane_that_gives_no_answer_lets_its_own_rows_wait_and_no_others() -> None:
    upstream = Upstream(silent=100, fine=100)
    upstream.silent.add("silent")
    await upstream.lanes().run(["silent", "fine"])
    assert upstream.asked == {"silent": FEW, "fine": 100}


async def test_a_slow_lane_holds_up_no_other() -> None:
    upstream = Upstream(slow=100, fine=1_000)
    slow = upstream.hanging["slow"] = asyncio.Event()
    working = asyncio.create_task(upstream.lanes().run(["slow", "fine"]))
    async with asyncio.timeout(20):
        while upstream.waiting["fine"]:
            await asyncio.sleep(0)
    assert not working.done()
    assert upstream.asked["slow"] == FEW
    slow.set()
    await working


async def test_rows_that_fail_keep_no_other_waiting() -> None:
    upstream = Upstream(fine=100)
    upstream.broken = {f"fine-{number}" for number in range(2 * FEW)}
    await upstream.lanes().run(["fine"])
    assert upstream.asked["fine"] == 100


async def test_what_stays_due_is_not_asked_about_again_in_the_same_turn() -> None:
    upstream = Upstream(fine=100)
    upstream.stuck = {f"fine-{number}" for number in range(100)}
    await upstream.lanes().run(["fine"])
    assert upstream.asked["fine"] == 8 * FEW, "two pages, of which the second begins with the first"


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_turn_ends_in_time_however_much_waits(seconds: float) -> None:
    upstream = Upstream(fine=1_000)
    await upstream.lanes(turn_s=seconds).run(["fine"])
    assert upstream.pages == []
