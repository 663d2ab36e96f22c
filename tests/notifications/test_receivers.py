"""Receivers that ask for time are given it, and people hear of one that takes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from broker.base.db import EVERY_TENANT
from broker.notifications import outbox
from broker.notifications.notices import notify
from tests.notifications.conftest import Notifying

DAY_MS = 86_400_000


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What databases do alike is told here; once is enough."""
    return sqlite_url


async def waits_ms(notifying: Notifying) -> list[int]:
    """For how long each pending webhook delivery still waits."""
    now = notifying.world.clock()
    found = [one for one in await notifying.deliveries(state="pending") if one["channel"] == "webhook"]
    return [int(datetime.fromisoformat(one["next_try_at"]).timestamp() * 1000) - now for one in found]


async def notices(notifying: Notifying, kind: str) -> list[dict[str, Any]]:
    found = (await notifying.world.call("GET", "/v1/notices", params={"limit": 500}))["items"]
    return [one for one in found if one["kind"] == kind]


def about_webhooks(notifying: Notifying) -> list[str]:
    mails = [mail["Subject"] for mail in notifying.mailbox.to("security@gridwise.example")]
    return [subject for subject in mails if "webhook" in subject]


@pytest.mark.parametrize("status", [429, 503])
async def test_nothing_is_posted_before_the_time_that_a_receiver_asked_for(notifying: Notifying, status: int) -> None:
    await notifying.webhook(kinds=["key_exposed", "key_resumed"])
    notifying.receiver.status, notifying.receiver.headers = status, {"Retry-After": "3600"}
    await notifying.happen()
    await notifying.world.work()
    assert len(notifying.receiver.came) == 1
    (delivery,) = [one for one in await notifying.deliveries() if one["channel"] == "webhook"]
    assert (delivery["last_status"], delivery["last_error"]) == (status, "asked_to_wait")
    await notifying.happen("globex")  # another notice, for the same receiver
    async with notifying.world.services.parts.db.write(EVERY_TENANT) as session:  # and one of no haste
        await notify(session, "key_resumed", organization="", provider="x", now=notifying.world.clock())
    await notifying.world.work(seconds=3_500)
    assert len(notifying.receiver.came) == 1
    notifying.receiver.status = 204
    await notifying.world.work(seconds=120)
    assert len(notifying.receiver.came) == 4
    assert await notifying.deliveries(state="pending") == []


async def test_what_waited_before_a_receiver_asked_for_time_waits_on_whatever_comes_after(
    notifying: Notifying,
) -> None:
    await notifying.webhook(kinds=["key_resumed"])
    notifying.receiver.status, notifying.receiver.headers = 429, {"Retry-After": "3600"}

    async def happen(*numbers: int) -> None:
        async with notifying.world.services.parts.db.write(EVERY_TENANT) as session:
            for number in numbers:
                now = notifying.world.clock()
                await notify(session, "key_resumed", organization="", provider="x", now=now, dedup=f"n{number}")

    # given more than is sent at once
    await happen(*range(7))
    await notifying.world.work()
    assert len(notifying.receiver.came) == 5
    # when another one comes
    await happen(7)
    await notifying.world.work(seconds=60)
    # then nothing is sent until it is time
    assert len(notifying.receiver.came) == 5
    notifying.receiver.status = 204
    await notifying.world.work(seconds=3_600)
    assert len(notifying.receiver.came) == 5 + 8


async def test_a_receiver_that_asks_for_less_than_the_schedule_waits_for_the_schedule(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status, notifying.receiver.headers = 503, {"Retry-After": "1"}
    await notifying.happen()
    await notifying.world.work()
    await notifying.world.work(seconds=10)
    (wait,) = await waits_ms(notifying)
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
    notifying: Notifying, asked: str, least: int, most: int
) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status, notifying.receiver.headers = 429, {"Retry-After": asked}
    await notifying.happen()
    await notifying.world.work()
    (wait,) = await waits_ms(notifying)
    assert least <= wait <= most


async def test_a_date_is_a_time_as_well(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    later = datetime.fromtimestamp(notifying.world.clock() // 1000 + 7_200, UTC)
    notifying.receiver.status, notifying.receiver.headers = 503, {"Retry-After": format_datetime(later, usegmt=True)}
    await notifying.happen()
    await notifying.world.work()
    (wait,) = await waits_ms(notifying)
    assert 7_000_000 < wait <= 7_200_000


async def test_other_answers_ask_for_nothing(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status, notifying.receiver.headers = 404, {"Retry-After": "3600"}
    await notifying.happen()
    await notifying.world.work()
    (wait,) = await waits_ms(notifying)
    assert wait < 10_000


async def test_a_webhook_that_failed_for_a_day_is_told_through_the_others_once(
    notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = (await notifying.webhook(kinds=[]))["webhook"]["id"]
    notifying.receiver.status = 404
    await notifying.happen()
    for _ in range(23):
        await notifying.world.work(hours=1)
    assert about_webhooks(notifying) == []
    for _ in range(72):
        await notifying.world.work(hours=1)
    assert about_webhooks(notifying) == ["A webhook takes nothing"]
    told = [
        one for one in (await notifying.world.call("GET", "/v1/notices"))["items"] if one["kind"] == "webhook_failing"
    ]
    assert [failing in one["text"] for one in told] == [True]
    posted = [body for _, body in notifying.receiver.came if b"webhook.failing" in body]
    assert posted == [], "not over the one that takes nothing"

    # once it took something, a new day of failures is told again
    notifying.receiver.status = 204
    await notifying.happen("globex")
    await notifying.world.work()
    notifying.receiver.status = 500
    await notifying.happen("initech")
    for _ in range(30):
        await notifying.world.work(hours=1)
    assert about_webhooks(notifying) == ["A webhook takes nothing"] * 2


async def test_a_webhook_that_refuses_one_notice_and_takes_others_is_not_told(
    notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status = 404
    await notifying.happen()
    await notifying.world.work()
    post = outbox.Outbox.post

    async def only_new(self: outbox.Outbox, row: Any, notice: Any) -> outbox.Answer:
        notifying.receiver.status = 204 if notice.organization_id != first["organization"] else 404
        return await post(self, row, notice)

    (first,) = [
        one for one in (await notifying.world.call("GET", "/v1/notices"))["items"] if one["kind"] == "key_exposed"
    ]
    monkeypatch.setattr(outbox.Outbox, "post", only_new)
    await notifying.happen("globex")
    for _ in range(30):
        await notifying.world.work(hours=1)
    assert about_webhooks(notifying) == []
