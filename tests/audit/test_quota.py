"""Quotas: pure rules, and exact counts in the transaction of the event."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.events import BROKER, Event
from broker.audit.log import AuditLog
from broker.audit.quota import GIVE_BACK, Cooldown, Exhausted, Quota, Rate, Total
from broker.base.clock import Millis
from broker.base.db import Database

NOW = 1_795_000_000_000


def wait_of(quota: Quota, value: int, now: int) -> int:
    """The wait that a refusal names; 0 where there is none."""
    try:
        quota.take(value, now)
    except Exhausted as exhausted:
        return exhausted.wait or 0
    return 0


def events(count: int) -> list[Event]:
    return [Event(kind="use.authorized", time=Millis(NOW), actor=BROKER) for _ in range(count)]


@given(
    uses=st.integers(1, 50),
    seconds=st.integers(1, 3_600),
    steps=st.lists(st.integers(0, 120_000), min_size=1, max_size=200),
)
def test_a_rate_lets_no_more_than_twice_its_number_into_any_period_and_always_its_number_after_a_rest(
    uses: int, seconds: int, steps: list[int]
) -> None:
    rate, value, now, taken = Rate("r", uses, seconds * 1000), 0, NOW, list[int]()
    for step in steps:
        now += step
        now += wait_of(rate, value, now)
        value = rate.take(value, now)  # so the wait that it names is true
        taken.append(now)
    for at in taken:
        assert sum(at <= other < at + seconds * 1000 for other in taken) <= 2 * uses
    rested = now + seconds * 1000
    for _ in range(uses):
        value = rate.take(value, rested)


def test_a_burst_is_the_whole_number_at_once_and_no_more() -> None:
    rate, value = Rate("r", 5, 60_000), 0
    for _ in range(5):
        value = rate.take(value, NOW)
    assert wait_of(rate, value, NOW) == 12_000


@given(back=st.integers(0, 86_400_000))
def test_a_clock_that_was_set_back_stops_nobody_for_longer_than_the_period_and_a_minute(back: int) -> None:
    rate, pause = Rate("r", 1, 60_000), Cooldown("p", 60_000)
    now, later = NOW - back, NOW - back + 60_000 + 60_000
    for quota, value in ((rate, rate.take(0, NOW)), (pause, NOW + 60_000)):
        assert wait_of(quota, value, now) <= 60_000
        assert 0 in {wait_of(quota, value, now), wait_of(quota, value, later)}


def test_clocks_that_differ_a_little_let_nothing_through() -> None:
    rate, pause = Rate("r", 1, 60_000), Cooldown("p", 60_000)
    assert wait_of(rate, rate.take(0, NOW), NOW - 5_000) > 0
    assert wait_of(pause, NOW + 60_000, NOW - 5_000) > 0


async def test_the_count_is_exact_among_concurrent_events_and_replicas(db: Database) -> None:
    logs = [AuditLog(db), AuditLog(db)]
    for log in logs:
        await log.start()

    async def one(log: AuditLog, event: Event, *quotas: Quota) -> bool:
        try:
            await log.append(event, quotas=quotas)
        except Exhausted:
            return False
        return True

    both = (Total("g/uses", 7), Rate("g/rate", 1000, 1000))
    granted = await asyncio.gather(*(one(logs[at % 2], event, *both) for at, event in enumerate(events(40))))
    assert sum(granted) == 7
    # all or none: an event that is refused by one quota takes from no other
    rate_before = await asyncio.gather(*(one(logs[0], event, Rate("h", 3, 60_000)) for event in events(2)))
    refused = await one(logs[0], events(1)[0], Rate("h", 3, 60_000), Total("g/uses", 7))
    last = await asyncio.gather(*(one(logs[1], event, Rate("h", 3, 60_000)) for event in events(2)))
    assert (rate_before, refused, sorted(last)) == ([True, True], False, [False, True])
    for log in logs:
        await log.stop()


async def test_an_event_that_is_refused_takes_nothing_also_beside_one_that_is_not(db: Database) -> None:
    log = AuditLog(db)
    await log.start()
    first, refused, beside, later = events(4)
    await log.append(first, quotas=[Total("spent", 1)])
    rate = Rate("rate", 1, 60_000)
    answers = await asyncio.gather(
        log.append(refused, quotas=[rate, Total("spent", 1)]),
        log.append(beside, quotas=[Total("other", 1)]),
        return_exceptions=True,
    )
    assert [isinstance(answer, Exhausted) for answer in answers] == [True, False]
    await log.append(later, quotas=[rate])
    await log.stop()


async def test_what_was_not_taken_can_not_be_given_back(db: Database) -> None:
    log = AuditLog(db)
    await log.start()
    first, back, second, third = events(4)
    await log.append(first, quotas=[Total("uses", 1)])
    await log.append(back, writes=[(GIVE_BACK, {"taken": "uses"})] * 2)
    await log.append(second, quotas=[Total("uses", 1)])
    with pytest.raises(Exhausted):
        await log.append(third, quotas=[Total("uses", 1)])
    await log.stop()
