"""People and systems are told: at least once, under a stable id, and never with a secret."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from standardwebhooks import Webhook, WebhookVerificationError

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.keystore.keystore import KeystoreUnavailable
from broker.notifications import webhooks
from broker.notifications.notices import notify
from broker.notifications.outbox import Answer, Outbox
from broker.notifications.tables import NoticeRow, QueueRow
from tests.notifications.conftest import Notifying
from tests.support.reads import MOST, reading
from tests.support.waiting import eventually


def outbox(notifying: Notifying) -> Outbox:
    found: Outbox = notifying.world.services.outbox
    return found


async def test_a_webhook_is_signed_as_standard_webhooks_asks(notifying: Notifying) -> None:
    made = await notifying.webhook(kinds=["key_exposed"])
    credential = await notifying.happen()
    await notifying.world.work()

    ((headers, body),) = notifying.receiver.came
    told = Webhook(made["secret"]).verify(body, headers)
    assert told["type"] == "key.exposed"
    assert told["data"]["credential"] == credential
    assert told["data"]["severity"] == "urgent"
    assert "broker incident timeline" in told["data"]["text"]
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(body.replace(b"urgent", b"info"), headers)
    page = (Path(__file__).parents[2] / "docs" / "formats" / "webhook.md").read_text()
    assert [name for name in (*told, *told["data"]) if f'"{name}"' not in page] == []


async def test_a_new_signing_secret_and_the_one_before_both_verify_for_a_day(notifying: Notifying) -> None:
    made = await notifying.webhook(kinds=["key_exposed"])
    again = await notifying.world.call("POST", f"/v1/webhooks/{made['webhook']['id']}/rotate-secret")
    await notifying.happen()
    await notifying.world.work()
    ((headers, body),) = notifying.receiver.came
    for secret in (made["secret"], again["secret"]):
        Webhook(secret).verify(body, headers)

    notifying.receiver.came.clear()
    notifying.world.clock.forward(hours=25)
    await notifying.happen("globex")
    await notifying.world.work()
    ((headers, body),) = notifying.receiver.came
    # the library compares with the present; only which secrets signed is asked here
    signatures = headers["webhook-signature"].split(" ")
    assert len(signatures) == 1


async def test_slack_gets_json_that_it_takes(notifying: Notifying) -> None:
    await notifying.webhook(format="slack", kinds=["key_exposed"])
    await notifying.happen()
    await notifying.world.work()
    ((headers, body),) = notifying.receiver.came
    told = json.loads(body)
    assert headers["content-type"] == "application/json"
    assert told["text"].startswith(":rotating_light: *A key was exposed*")
    title, said, about = told["blocks"]
    assert title == {"type": "section", "text": {"type": "mrkdwn", "text": ":rotating_light: *A key was exposed*"}}
    assert said["text"]["text"].startswith("The key ending ")
    assert about["elements"][0]["text"].startswith("org_")
    assert [said["text"]["type"], about["elements"][0]["type"]] == ["plain_text", "plain_text"]


async def found_at(notifying: Notifying, place: str) -> None:
    """A notice with somebody else's text in it."""
    await notifying.world.organization("acme")
    organization = (await notifying.world.call("GET", "/v1/organizations/acme"))["id"]
    async with notifying.world.services.parts.db.write(EVERY_TENANT) as session:
        await notify(
            session,
            "leak_found",
            organization=organization,
            provider="raptor-comply",
            now=notifying.world.clock(),
            facts={"place": place, "places": 1, "last4": "1234"},
        )
    await notifying.world.work()


async def test_other_peoples_text_is_no_markup_of_slacks(notifying: Notifying) -> None:
    odd = "@channel <!here> *URGENT* `x` :tada: https://evil.example/login"
    await notifying.webhook(format="slack")
    await found_at(notifying, odd)
    ((_, body),) = notifying.receiver.came
    told = json.loads(body)
    plain = told["blocks"][1]["text"]
    assert (plain["type"], plain["emoji"], odd in plain["text"]) == ("plain_text", False, True)
    told["blocks"].remove(told["blocks"][1])
    assert "evil.example" not in json.dumps(told)


async def test_operators_and_the_customer_are_mailed_each_in_their_words(notifying: Notifying) -> None:
    await notifying.happen()
    await notifying.world.work()
    (operators,) = [mail for mail in notifying.mailbox.to("security@gridwise.example") if "exposed" in mail["Subject"]]
    (customer,) = [mail for mail in notifying.mailbox.to("admin@acme.example") if "exposed" in mail["Subject"]]
    assert operators["Subject"] == "[URGENT] A key was exposed"
    assert "broker incident timeline" in operators.get_content()
    assert "broker" not in customer.get_content()
    assert "Find the key by its last four characters and choose Revoke." in customer.get_content()
    assert "keys@gridwise.example" in customer.get_content()
    assert "your key for Raptor Comply" in customer.get_content()
    assert customer["Auto-Submitted"] == "auto-generated"
    assert customer["Message-ID"] != operators["Message-ID"]


async def test_what_fails_is_tried_again_under_the_same_id_and_then_told_once(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status = 500
    await notifying.happen()
    await notifying.world.work()
    await notifying.world.work()
    assert len(notifying.receiver.came) == 1, "not at once"
    notifying.receiver.status = 200
    await notifying.world.work(seconds=10)
    await notifying.world.work(hours=100)
    first, second = notifying.receiver.came
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    (delivery,) = [one for one in await notifying.deliveries() if one["channel"] == "webhook"]
    assert (delivery["state"], delivery["tries"], delivery["last_status"]) == ("sent", 2, 200)


async def test_what_never_works_is_a_dead_letter_that_can_be_sent_again(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status = 503
    await notifying.happen()
    for _ in range(12):
        await notifying.world.work(hours=30)
    (dead,) = await notifying.deliveries(state="dead")
    assert (dead["channel"], dead["tries"], dead["last_status"], dead["last_error"]) == ("webhook", 10, 503, "refused")

    notifying.receiver.status = 200
    notifying.receiver.came.clear()
    await notifying.world.call("POST", f"/v1/notices/deliveries/{dead['id']}/resend")
    assert len(await notifying.world.events(kind="notice.resent")) == 1
    await notifying.world.work()
    assert len(notifying.receiver.came) == 1
    again = await notifying.world.call("POST", f"/v1/notices/deliveries/{dead['id']}/resend", status=409)
    assert "only a dead one" in again["detail"]


async def test_a_receiver_that_is_gone_is_asked_no_more(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status = 410
    await notifying.happen()
    await notifying.world.work()
    ((webhook),) = (await notifying.world.call("GET", "/v1/webhooks"))["items"]
    assert webhook["state"] == "disabled"
    assert len(await notifying.world.events(kind="webhook.disabled")) == 1
    await notifying.world.work(hours=30)
    assert len(notifying.receiver.came) == 1
    assert [mail["Subject"] for mail in notifying.mailbox.to("security@gridwise.example")].count(
        "A webhook is switched off"
    ) == 1
    assert len(await notifying.deliveries(state="dead")) == 1


async def test_an_address_that_the_mail_server_rejects_is_dead_at_once_and_a_busy_server_is_tried_again(
    notifying: Notifying,
) -> None:
    notifying.mailbox.reply = "451 try later"
    await notifying.happen()
    await notifying.world.work()
    assert {one["state"] for one in await notifying.deliveries()} == {"pending"}
    notifying.mailbox.reply = "550 no such user"
    await notifying.world.work(seconds=30)
    assert {one["state"] for one in await notifying.deliveries() if one["tries"] == 2} == {"dead"}


async def test_a_refusal_that_is_not_about_the_message_kills_none(notifying: Notifying) -> None:
    # a sender that isn't allowed, a password that was changed: somebody fixes that
    notifying.mailbox.to_sender = "550 not from here"
    await notifying.happen()
    await notifying.world.work()
    assert {(one["state"], one["last_error"]) for one in await notifying.deliveries()} == {("pending", "550")}
    notifying.mailbox.to_sender = "250 OK"
    await notifying.world.work(seconds=30)
    assert {one["state"] for one in await notifying.deliveries() if one["tries"] == 2} == {"sent"}


async def test_a_receiver_that_is_down_for_a_day_gets_everything_afterwards(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.status = 503
    for slug in ("acme", "globex"):
        await notifying.happen(slug)
    for _ in range(12):
        await notifying.world.work(hours=2)
    notifying.receiver.status = 200
    notifying.receiver.came.clear()
    await notifying.world.work(hours=20)
    assert len({headers["webhook-id"] for headers, _ in notifying.receiver.came}) == 2


async def test_a_receiver_is_not_told_of_its_own_trouble(notifying: Notifying) -> None:
    await notifying.webhook()
    notifying.receiver.status = 503
    await notifying.happen()
    for hours in (0, 25):
        await notifying.world.work(hours=hours)
    notifying.receiver.status = 200
    await notifying.world.work(hours=25)
    assert "webhook_failing" in {one["kind"] for one in (await notifying.world.call("GET", "/v1/notices"))["items"]}
    assert "webhook.failing" not in {json.loads(body)["type"] for _, body in notifying.receiver.came}


async def test_two_workers_at_once_send_once(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    await notifying.happen()
    await asyncio.gather(*(outbox(notifying).work() for _ in range(4)))
    assert len(notifying.receiver.came) == 1
    assert len(notifying.mailbox.to("security@gridwise.example")) == len(
        {mail["Message-ID"] for mail in notifying.mailbox.to("security@gridwise.example")}
    )


class Killed(BaseException):
    """The process ended here: nothing in it went on."""


@pytest.mark.parametrize("line", ["before it is sent", "after it was sent"])
async def test_a_sender_that_dies_leaves_the_message_to_the_next(
    notifying: Notifying, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    await notifying.happen()
    post = Outbox.post

    async def dying(self: Outbox, *arguments: Any) -> int | None:
        if line == "after it was sent":
            await post(self, *arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "post", dying)
        await outbox(notifying).work()
    before = len(notifying.receiver.came)
    await notifying.world.work(seconds=60)
    assert len(notifying.receiver.came) == before, "its claim still holds"
    await notifying.world.work(seconds=120)
    assert len(notifying.receiver.came) == before + 1
    assert len({headers["webhook-id"] for headers, _ in notifying.receiver.came}) == 1


async def test_a_sender_whose_claim_ran_out_settles_nothing(
    notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    await notifying.happen()
    post, senders = Outbox.post, iter(["slow", "next"])

    async def late(self: Outbox, *arguments: Any) -> Answer:
        if next(senders) == "next":
            return await post(self, *arguments)
        notifying.world.clock.forward(seconds=121)
        await outbox(notifying).work()
        return Answer(500)

    monkeypatch.setattr(Outbox, "post", late)
    await outbox(notifying).work()
    (sent,) = [one for one in await notifying.deliveries() if one["channel"] == "webhook"]
    assert (sent["state"], len(notifying.receiver.came)) == ("sent", 1)


async def test_the_same_thing_is_told_once(notifying: Notifying) -> None:
    credential = await notifying.happen()
    for _ in range(3):
        again = await notifying.world.call(
            "POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "me too", "where": "elsewhere"}
        )
        assert again["exposure"]["found_by"] == "a scanner"
    async with notifying.world.services.parts.db.read(EVERY_TENANT) as session:
        query = select(func.count()).select_from(NoticeRow).where(NoticeRow.kind == "key_exposed")
        assert await session.scalar(query) == 1


async def test_a_slow_receiver_holds_no_other(notifying: Notifying) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.answering.clear()
    await notifying.happen()
    working = asyncio.create_task(outbox(notifying).work())
    await eventually(lambda: notifying.mailbox.to("security@gridwise.example"), seconds=60)
    async with asyncio.timeout(60):
        assert not working.done(), "mail went out while the webhook's receiver thought"
        notifying.receiver.answering.set()
        await working


async def test_what_is_urgent_goes_first_and_no_destination_takes_every_turn(
    notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a hundred notices of no haste for one webhook, then an exposure for it and another
    slow, other = [(await notifying.webhook())["webhook"]["id"] for _ in range(2)]
    async with notifying.world.services.parts.db.write(EVERY_TENANT) as session:
        for number in range(100):
            await notify(session, "key_resumed", organization="", provider="x", now=Millis(0), dedup=f"n{number}")
    while await outbox(notifying).fan_out():
        pass
    await notifying.happen()
    while await outbox(notifying).fan_out():
        pass
    # when the next turn is taken
    _, claimed = await outbox(notifying).claim()
    # then the exposure is in it, for everybody, and neither webhook fills it
    urgent = {delivery.destination for delivery, notice in claimed if notice.kind == "key_exposed"}
    assert urgent == {slow, other, "security@gridwise.example", "admin@acme.example"}
    taken = Counter(delivery.destination for delivery, _ in claimed)
    assert max(taken.values()) <= 5


async def test_a_turn_reads_as_many_as_it_takes_however_many_wait(notifying: Notifying) -> None:
    # given thousands of notices that one receiver is behind with
    await notifying.webhook()
    db = notifying.world.services.parts.db
    async with db.write(EVERY_TENANT) as session:
        for number in range(4_000):
            await notify(session, "key_resumed", organization="", provider="x", now=Millis(0), dedup=f"n{number}")
    with reading(db, times=3) as found:
        while await outbox(notifying).fan_out():
            pass
        # when a turn is taken, then another after that
        for _ in range(2):
            _, claimed = await outbox(notifying).claim()
            assert len(claimed) == 2 * 5  # the webhook's and the operators'
    # then no statement read them all
    assert [str(read) for read in found if read.read > MOST[db.dialect]] == []


async def test_each_destination_has_its_turn_before_one_has_another(notifying: Notifying) -> None:
    # given several that are behind
    hooks = {(await notifying.webhook())["webhook"]["id"] for _ in range(7)}
    async with notifying.world.services.parts.db.write(EVERY_TENANT) as session:
        for number in range(20):
            await notify(session, "key_resumed", organization="", provider="x", now=Millis(0), dedup=f"n{number}")
    await outbox(notifying).fan_out()
    # when as many turns are taken as all of them need once
    served = Counter[str]()
    for _ in range(2):
        _, claimed = await outbox(notifying).claim()
        served.update(delivery.destination for delivery, _ in claimed)
        notifying.world.clock.forward(seconds=1)
    # then nobody had two
    assert {*served.values()} == {5}
    assert hooks < {*served}


async def test_a_queue_in_which_nothing_waits_is_gone(notifying: Notifying) -> None:
    await notifying.webhook()
    await notifying.happen()
    await notifying.world.work()
    for _ in range(2):
        await notifying.world.work(seconds=180)
    assert {one["state"] for one in await notifying.deliveries()} == {"sent"}
    async with notifying.world.services.parts.db.read(EVERY_TENANT) as session:
        assert (await session.scalars(select(QueueRow.id))).all() == []


async def test_a_try_that_ends_in_a_surprise_counts_as_one(
    notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    await notifying.happen()

    async def surprising(*_: Any) -> int | None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(Outbox, "post", surprising)
    for _ in range(12):
        await notifying.world.work(hours=30)
    (dead,) = await notifying.deliveries(state="dead")
    assert (dead["channel"], dead["tries"], dead["last_error"]) == ("webhook", 10, "RuntimeError")


async def test_a_receiver_that_never_ends_its_answer_is_given_up_in_time(
    notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notifying.webhook(kinds=["key_exposed"])
    notifying.receiver.answering.clear()
    monkeypatch.setattr("broker.notifications.outbox._TRY_S", 0.2)
    await notifying.happen()
    await notifying.world.work()
    (delivery,) = [one for one in await notifying.deliveries() if one["channel"] == "webhook"]
    assert (delivery["state"], delivery["last_error"]) == ("pending", "timeout")
    notifying.receiver.answering.set()


async def test_the_worker_sends_beside_everything_else(notifying: Notifying) -> None:
    # given a piece of work that stands still
    stands = asyncio.Event()

    async def standing() -> None:
        await stands.wait()

    with pytest.MonkeyPatch.context() as patched:
        worker = notifying.world.broker.worker
        patched.setattr(worker.duties["verify_due"], "run", standing)
        working = asyncio.create_task(worker.run())
        try:
            await notifying.happen()
            await eventually(lambda: notifying.mailbox.to("security@gridwise.example"), seconds=60)
        finally:
            stands.set()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def test_webhooks_keep_to_their_organization_and_are_the_operators_own(notifying: Notifying) -> None:
    world = notifying.world
    for slug in ("acme", "globex"):
        await world.organization(slug)
    limited = await world.operator("olga", "operator", organizations=["acme"])
    url = notifying.receiver.url + "/hook"
    refused = await world.call("POST", "/v1/webhooks", as_=limited, status=403, json={"url": url})
    assert "name one of them" in refused["detail"]
    await world.call("POST", "/v1/webhooks", as_=limited, status=404, json={"url": url, "organization": "globex"})
    await world.call("POST", "/v1/webhooks", as_=limited, status=201, json={"url": url, "organization": "acme"})
    every = await world.call("POST", "/v1/webhooks", status=201, json={"url": url})
    seen = (await world.call("GET", "/v1/webhooks", as_=limited))["items"]
    assert [one["organization"] is not None for one in seen] == [True]
    await world.call("POST", f"/v1/webhooks/{every['webhook']['id']}/revoke", as_=limited, status=404)


async def test_a_webhook_of_one_organization_hears_nothing_of_another(notifying: Notifying) -> None:
    await notifying.world.organization("acme")
    await notifying.webhook(organization="acme", kinds=["key_exposed"])
    await notifying.happen("globex")
    await notifying.world.work()
    assert notifying.receiver.came == []


async def test_a_test_notice_says_what_the_receiver_answered(notifying: Notifying) -> None:
    made = await notifying.webhook()
    notifying.receiver.status = 202
    tested = await notifying.world.call("POST", f"/v1/webhooks/{made['webhook']['id']}/test")
    assert tested == {"status": 202, "reason": None}
    Webhook(made["secret"]).verify(notifying.receiver.came[0][1], notifying.receiver.came[0][0])
    for status in (302, 404, 500):
        notifying.receiver.status = status
        tested = await notifying.world.call("POST", f"/v1/webhooks/{made['webhook']['id']}/test")
        assert tested["status"] == status
        assert f"answered {status}; a notice is taken by 200 to 299" in tested["reason"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/hook", "no answer: nothing listens there (the connection was refused)"),
        ("https://receiver.invalid/hook", "no answer: its name has no address"),
    ],
)
async def test_a_test_notice_that_nobody_takes_says_why(notifying: Notifying, url: str, why: str) -> None:
    made = await notifying.world.call("POST", "/v1/webhooks", status=201, json={"url": url})
    tested = await notifying.world.call("POST", f"/v1/webhooks/{made['webhook']['id']}/test")
    assert tested == {"status": None, "reason": why}


async def test_a_test_notice_says_that_the_keystore_is_away(
    notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await notifying.webhook()

    async def away(*_: object) -> None:
        raise KeystoreUnavailable("Vault is sealed.")

    monkeypatch.setattr(webhooks, "message", away)
    tested = await notifying.world.call("POST", f"/v1/webhooks/{made['webhook']['id']}/test")
    assert "no answer: the keystore is away" in tested["reason"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example/h",
        "https://user:pw@x.example/",
        "https://:pw@x.example/",
        "https://@x.example/",
        "https://x.example\\.y.example/",
        "https://x.example%2ey.example/",
        "https://x.example/#f",
        "https://x.example/ä",
        "https:///x",
        "https://x..y/h",
        f"https://{'x' * 64}.example/h",
    ],
)
async def test_addresses_that_notices_must_not_be_posted_to_are_refused(notifying: Notifying, url: str) -> None:
    refused = await notifying.world.call("POST", "/v1/webhooks", status=422, json={"url": url})
    assert refused["detail"].startswith("url:")


async def test_no_secret_is_in_anything_that_is_sent_or_shown(
    notifying: Notifying, capfd: pytest.CaptureFixture[str]
) -> None:
    made = await notifying.webhook()
    credential = await notifying.happen()
    for _ in range(3):
        await notifying.world.work(hours=30)
    rotation = (await notifying.world.call("GET", "/v1/rotations", params={"credential": credential}))["items"]
    assert rotation
    sent = b"".join(body for _, body in notifying.receiver.came)
    sent += b"".join(bytes(mail) for _, mail in notifying.mailbox.came)
    assert len(notifying.receiver.came) >= 3
    shown = json.dumps(await notifying.deliveries()) + json.dumps(
        (await notifying.world.call("GET", "/v1/webhooks"))["items"]
    )
    everything = sent.decode() + shown + "".join(capfd.readouterr())
    for secret in (notifying.world.upstream_keys["acme"], made["secret"], "very-secret-part", "#", "kbl_", "/intake/"):
        assert secret not in everything, secret


async def test_other_peoples_text_in_a_notice_steers_no_reader(notifying: Notifying) -> None:
    """Also what an earlier version of the broker took in."""
    odd = "ci\x9b31m\u202e\u200b\u2028\nNothing has to be cut off."
    await notifying.webhook(format="slack")
    await found_at(notifying, odd)
    seen = "ci\ufffd31m\ufffd\ufffd\ufffd\ufffdNothing has to be cut off."
    (mail,) = notifying.mailbox.to("security@gridwise.example")
    assert seen in mail.get_content().replace("\n", "")
    (_, body), *_ = notifying.receiver.came
    assert seen in json.loads(body)["blocks"][1]["text"]["text"]
    (listed,) = (await notifying.world.call("GET", "/v1/notices"))["items"]
    assert seen in listed["text"]
