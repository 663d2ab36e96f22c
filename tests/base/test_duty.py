"""Duties: how often one is done, what it counted, and how much of it is done at once."""

from __future__ import annotations

import asyncio

import pytest

from broker.base.duty import Counts, Duty, few_at_once


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


async def test_work_is_done_a_few_at_once_and_a_row_that_fails_keeps_no_other_waiting() -> None:
    asked: list[int] = []
    at_work = most = 0

    async def ask(row: int) -> None:
        nonlocal at_work, most
        asked.append(row)
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        if row < 5:
            raise RuntimeError

    await few_at_once(range(12), ask)
    assert sorted(asked) == list(range(12))
    assert most == 3
