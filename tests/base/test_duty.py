"""Duties: how often one is done, what it counted, and whose turn it is."""

from __future__ import annotations

import asyncio

import pytest

from broker.base.duty import Counts, Duty, in_turn


def counting(start: int = 1, *, every: int = 100) -> Duty:
    numbers = iter(range(start, 1_000))

    async def count() -> Counts:
        return {("some",): next(numbers)}

    return Duty("count", count, every=every)


async def test_a_duty_is_done_at_once_and_then_no_more_often_than_it_says() -> None:
    duty, found = counting(), []
    for now in (0, 99, 100, 199, 200):
        await duty.do(now)
        found.append(duty.counted[("some",)])
    assert found == [1, 1, 2, 2, 3]


async def test_one_that_failed_waits_for_its_next_time() -> None:
    tries: list[int] = []

    async def fail() -> None:
        tries.append(1)
        raise RuntimeError

    duty = Duty("fail", fail, every=100)
    with pytest.raises(RuntimeError):
        await duty.do(0)
    await duty.do(99)
    assert len(tries) == 1


@pytest.mark.parametrize("now", [-200, 300])
async def test_a_clock_that_was_set_far_keeps_no_duty_waiting(now: int) -> None:
    duty = counting()
    await duty.do(0)
    await duty.do(now)
    assert duty.counted == {("some",): 2}


async def test_who_stands_by_shows_no_counts_and_counts_at_once_when_its_turn_comes() -> None:
    duty = counting()
    assert duty.counted == {}
    await duty.do(0)
    duty.stand_by()
    assert duty.counted == {}
    await duty.do(1)
    assert duty.counted == {("some",): 2}


async def test_what_counts_nothing_keeps_its_time_while_it_stands_by() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    duty = Duty("work", work, every=100)
    await duty.do(0)
    duty.stand_by()
    await duty.do(1)
    assert len(done) == 1


async def test_a_lane_that_gives_no_answer_lets_its_own_rows_wait_and_no_others() -> None:
    asked: list[str] = []

    async def ask(row: str) -> bool:
        asked.append(row)
        await asyncio.sleep(0)
        return not row.startswith("silent")

    rows = [f"silent-{number}" for number in range(20)] + [f"fine-{number}" for number in range(20)]
    await in_turn(rows, lambda row: row.partition("-")[0], ask)
    assert len([row for row in asked if row.startswith("silent")]) == 5, "as many as at once"
    assert len([row for row in asked if row.startswith("fine")]) == 20


async def test_a_row_that_fails_keeps_no_other_waiting() -> None:
    asked: list[int] = []

    async def ask(row: int) -> bool:
        asked.append(row)
        if row == 0:
            raise RuntimeError
        return True

    await in_turn(range(12), lambda _row: "one", ask)
    assert sorted(asked) == list(range(12))
