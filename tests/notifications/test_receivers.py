"""Receivers that ask for time are given it, and people hear of one that takes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from broker.notifications import outbox
from tests.notifications.conftest import Telling

DAY_MS = 86_400_000


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What databases do alike is told here; once is enough."""
    return sqlite_url


async def waits_ms(telling: Telling) -> list[int]:
    """For how long each pending webhook delivery still waits."""
    now = telling.world.clock()
    found = [one for one in await telling.deliveries(state="pending") if one["channel"] == "webhook"]
    return [int(datetime.fromisoformat(one["next_try_at"]).timestamp() * 1000) - now for one in found]


async def notices(telling: Telling, kind: str) -> list[dict[str, Any]]:
    found = (await telling.world.call("GET", "/v1/notices", params={"limit": 500}))["items"]
    return [one for one in found if one["kind"] == kind]


def about_webhooks(telling: Telling) -> list[str]:
    mails = [mail["Subject"] for mail in telling.mailbox.to("security@gridwise.example")]
    return [subject for subject in mails if "webhook" in subject]


@pytest.mark.parametrize("status", [429, 503])
async def test_nothing_is_posted_before_the_time_that_a_receiver_asked_for(telling: Telling, status: int) -> None:
    await telling.webhook(kinds=["key_exposed"])
    telling.receiver.status, telling.receiver.headers = status, {"Retry-After": "3600"}
    await telling.happen()
    await telling.world.work()
    assert len(telling.receiver.came) == 1
    (delivery,) = [one for one in await telling.deliveries() if one["channel"] == "webhook"]
    assert (delivery["last_status"], delivery["last_error"]) == (status, "asked_to_wait")
    await telling.happen("globex")  # another notice, for the same receiver
    await telling.world.work(seconds=3_500)
    assert len(telling.receiver.came) == 1
    telling.receiver.status = 204
    await telling.world.work(seconds=120)
    assert len(telling.receiver.came) == 3
    assert await telling.deliveries(state="pending") == []


async def test_a_receiver_that_asks_for_less_than_the_schedule_waits_for_the_schedule(telling: Telling) -> None:
    await telling.webhook(kinds=["key_exposed"])
    telling.receiver.status, telling.receiver.headers = 503, {"Retry-After": "1"}
    await telling.happen()
    await telling.world.work()
    await telling.world.work(seconds=10)
    (wait,) = await waits_ms(telling)
    assert wait > 200_000, "the second pause of the schedule is five minutes"


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("864000", DAY_MS - 60_000, DAY_MS),
        ("1e308", DAY_MS - 60_000, DAY_MS),
        ("in two hours", 0, 10_000),
        ("inf", 0, 10_000),
        ("-5", 0, 10_000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 10_000),
    ],
)
async def test_it_is_believed_for_a_day_at_most_and_what_is_no_time_not_at_all(
    telling: Telling, asked: str, least: int, most: int
) -> None:
    await telling.webhook(kinds=["key_exposed"])
    telling.receiver.status, telling.receiver.headers = 429, {"Retry-After": asked}
    await telling.happen()
    await telling.world.work()
    (wait,) = await waits_ms(telling)
    assert least <= wait <= most


async def test_a_date_is_a_time_as_well(telling: Telling) -> None:
    await telling.webhook(kinds=["key_exposed"])
    later = datetime.fromtimestamp(telling.world.clock() // 1000 + 7_200, UTC)
    telling.receiver.status, telling.receiver.headers = 503, {"Retry-After": format_datetime(later, usegmt=True)}
    await telling.happen()
    await telling.world.work()
    (wait,) = await waits_ms(telling)
    assert 7_000_000 < wait <= 7_200_000


async def test_other_answers_ask_for_nothing(telling: Telling) -> None:
    await telling.webhook(kinds=["key_exposed"])
    telling.receiver.status, telling.receiver.headers = 404, {"Retry-After": "3600"}
    await telling.happen()
    await telling.world.work()
    (wait,) = await waits_ms(telling)
    assert wait < 10_000


async def test_a_webhook_that_failed_for_a_day_is_told_through_the_others_once(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = (await telling.webhook(kinds=[]))["webhook"]["id"]
    telling.receiver.status = 404
    await telling.happen()
    for _ in range(23):
        await telling.world.work(hours=1)
    assert about_webhooks(telling) == []
    for _ in range(72):
        await telling.world.work(hours=1)
    assert about_webhooks(telling) == ["A webhook takes nothing"]
    told = [
        one for one in (await telling.world.call("GET", "/v1/notices"))["items"] if one["kind"] == "webhook_failing"
    ]
    assert [failing in one["text"] for one in told] == [True]
    posted = [body for _, body in telling.receiver.came if b"webhook.failing" in body]
    assert posted == [], "not over the one that takes nothing"

    # once it took something, a new day of failures is told anew
    telling.receiver.status = 204
    await telling.happen("globex")
    await telling.world.work()
    telling.receiver.status = 500
    await telling.happen("initech")
    for _ in range(30):
        await telling.world.work(hours=1)
    assert about_webhooks(telling) == ["A webhook takes nothing"] * 2


async def test_a_webhook_that_refuses_one_notice_and_takes_others_is_not_told(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await telling.webhook(kinds=["key_exposed"])
    telling.receiver.status = 404
    await telling.happen()
    await telling.world.work()
    post = outbox.Outbox.post

    async def only_new(self: outbox.Outbox, row: Any, notice: Any) -> outbox.Answer:
        telling.receiver.status = 204 if notice.organization_id != first["organization"] else 404
        return await post(self, row, notice)

    (first,) = [
        one for one in (await telling.world.call("GET", "/v1/notices"))["items"] if one["kind"] == "key_exposed"
    ]
    monkeypatch.setattr(outbox.Outbox, "post", only_new)
    await telling.happen("globex")
    for _ in range(30):
        await telling.world.work(hours=1)
    assert about_webhooks(telling) == []
