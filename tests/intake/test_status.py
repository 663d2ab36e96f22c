"""The customer's status code: what they see, and what they may decide at any time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2
import pytest

from broker.sandbox.state import Faults
from tests.support.links import following
from tests.support.world import PUBLIC_URL, Job, World


@dataclass
class CodeHolder:
    """acme's Organization Admin, who gave a key and holds its status code."""

    world: World
    credential: str
    intake: str
    secret: str

    async def send(self, step: str, **more: Any) -> httpx2.Response:
        """What the page does."""
        return await self.world.say("status", self.intake, self.secret, step, **more)

    async def sees(self) -> dict[str, Any]:
        """The status."""
        answer = await self.send("open")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status


async def customer_of(world: World, slug: str) -> CodeHolder:
    await world.organization(slug)
    intake, secret = await world.request_key(slug)
    assert (await world.submit(intake, secret, world.upstream_keys[slug])).status_code == 200
    credential = (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]
    return CodeHolder(world, credential, intake, world.codes[intake])


@pytest.fixture
async def acme(world: World) -> CodeHolder:
    return await customer_of(world, "acme")


@pytest.fixture
async def sync(world: World, acme: CodeHolder) -> Job:
    job = await world.job("nightly-sync")
    await world.grant(job, "acme", modes=("use", "reveal"), max_ttl=86_400)
    return job


async def test_they_see_who_used_the_key_how_often_and_when(world: World, acme: CodeHolder, sync: Job) -> None:
    lease = await sync.lease("acme")
    for _ in range(3):
        await world.proxied(lease, "/facilities")
    await sync.lease("acme", mode="reveal")
    world.clock.forward(hours=72)
    lease = await sync.lease("acme")
    await world.proxied(lease, "/facilities")

    month = (await acme.send("usage", days=30)).json()
    assert [(job["name"], job["calls"], job["shown"]) for job in month["jobs"]] == [("nightly-sync", 4, 1)]
    assert len(month["per_day"]) == 30
    assert [day["calls"] for day in month["per_day"] if day["calls"]] == [3, 1]
    day = (await acme.send("usage", days=1)).json()
    assert [(job["calls"], job["shown"]) for job in day["jobs"]] == [(1, 0)]


async def test_they_see_when_the_key_is_to_be_replaced_whatever_limits_its_age(world: World, acme: CodeHolder) -> None:
    async def days() -> int | None:
        key = (await acme.sees())["key"]
        if key["due_at"] is None:
            return None
        return (datetime.fromisoformat(key["due_at"]) - datetime.fromisoformat(key["received_at"])).days

    assert await days() == 365, "the provider's own interval"
    policy = f"/v1/credentials/{acme.credential}/policy"
    await world.call("POST", policy, json={"rotation_days": 90})
    assert await days() == 90
    await world.call("POST", policy, json={"rotation_days": 90, "max_age_days": 30})
    assert await days() == 30
    await world.call("POST", f"/v1/credentials/{acme.credential}/revoke", json={"reason": "over"})
    assert await days() is None


async def test_a_paused_key_is_used_by_nobody_until_it_is_resumed(world: World, acme: CodeHolder, sync: Job) -> None:
    lease = await sync.lease("acme")
    assert (await acme.send("pause")).json()["key"]["state"] == "paused"
    assert (await acme.send("pause")).json()["key"]["state"] == "paused", "again: no change"
    for refused in (await sync.ask("acme"), await world.proxied(lease, "/facilities")):
        assert (refused.status_code, refused.json()["code"]) == (403, "key_paused")
    assert (await acme.send("resume")).json()["key"]["state"] == "active"
    assert (await world.proxied(lease, "/facilities")).status_code == 200

    events = [event["core"] for event in await world.events(credential=acme.credential)]
    done = [(event["kind"], event["actor"]["type"]) for event in events if event["actor"]["id"] == acme.intake]
    assert done[-2:] == [("credential.paused", "customer"), ("credential.resumed", "customer")]
    told = [notice["kind"] for notice in (await world.call("GET", "/v1/notices"))["items"]]
    assert told == ["key_paused", "key_resumed"]


async def test_not_even_the_broker_uses_a_paused_key(world: World, acme: CodeHolder) -> None:
    await acme.send("pause")
    world.upstream.requests.clear()
    for _ in range(3):
        await world.work(hours=30)
    assert list(world.upstream.requests) == []
    await acme.send("resume")
    await world.work(hours=2)
    assert len(world.upstream.requests) == 1


async def test_pausing_ends_calls_under_way(world: World, acme: CodeHolder, sync: Job) -> None:
    lease = await sync.lease("acme")
    world.upstream.faults = Faults(latency_ms=60_000)
    waiting = asyncio.create_task(world.proxied(lease, "/facilities"))
    async with asyncio.timeout(30):
        while not world.upstream.requests or world.upstream.requests[-1]["path"] != "/facilities":
            await asyncio.sleep(0.01)
        assert (await acme.send("pause")).status_code == 200
        cut = await waiting
    assert (cut.status_code, cut.json()["code"]) == (403, "key_paused")


async def test_withdrawal_is_for_good_and_recorded_as_theirs(world: World, acme: CodeHolder, sync: Job) -> None:
    lease = await sync.lease("acme")
    answer = (await acme.send("withdraw")).json()
    assert (answer["key"]["state"], answer["in_force"]) == ("revoked", False)
    assert (await acme.send("withdraw")).status_code == 200, "again: no change"
    assert (await world.proxied(lease, "/facilities")).json()["code"] == "key_revoked"
    assert (await sync.ask("acme")).status_code == 403
    refused = await acme.send("resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "unlawful_move")
    (revoked,) = await world.events(kind="credential.revoked")
    assert (revoked["core"]["actor"]["type"], revoked["core"]["reason"]) == ("customer", "withdrawn")
    assert revoked["personal"]["actor_name"] == "admin@acme.example"
    # and the broker watches it die
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()
    assert (await acme.sees())["key"]["state"] == "dead"


async def test_they_submit_the_next_key_themselves(world: World, acme: CodeHolder, sync: Job) -> None:
    first = await self_issued(acme)
    intake, secret = await self_issued(acme)
    assert first[0] == intake, "one request"
    assert (await world.open(*first)).json()["code"] == "link_invalid", "the previous link stops working"
    new = world.new_key("acme")
    assert (await world.submit(intake, secret, new)).json()["state"] == "accepted"

    seen = await acme.sees()
    assert (seen["key"]["last4"], seen["key"]["state"]) == (new[-4:], "active"), "the old code shows the present key"
    assert [(key["last4"], key["state"]) for key in seen["older"]] == [(world.upstream_keys["acme"][-4:], "retiring")]
    refused = await acme.send("rotate")
    assert (refused.status_code, refused.json()["code"]) == (409, "rotation_open")

    await world.work(hours=2)
    assert [key["state"] for key in (await acme.sees())["older"]] == ["awaiting"]
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=1)
    assert [key["state"] for key in (await acme.sees())["older"]] == ["revoked"]


async def test_a_request_of_the_vendor_waits_on_the_page(world: World, acme: CodeHolder) -> None:
    assert (await acme.sees())["wanted"] is False
    await world.rotate(acme.credential)
    assert (await acme.sees())["wanted"] is True
    assert (await acme.send("rotate")).status_code == 200


async def test_a_key_that_upstream_refuses_says_so(world: World, acme: CodeHolder) -> None:
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=30)
    assert (await acme.sees())["key"]["state"] == "failing"


async def test_a_leaked_code_is_replaced_and_controls_nothing_any_more(world: World, acme: CodeHolder) -> None:
    leaked = acme.secret
    made = await world.call("POST", f"/v1/credentials/{acme.credential}/status-link")
    for step in ("open", "usage", "pause", "resume", "withdraw", "rotate"):
        refused = await acme.send(step)
        assert (refused.status_code, refused.json()["code"]) == (404, "link_invalid"), step
    assert made["status_page"] == f"{PUBLIC_URL}/status/{acme.intake}"
    acme.secret = made["status_code"]
    assert acme.secret != leaked
    assert (await acme.sees())["key"]["state"] == "active"
    assert len(await world.events(kind="intake.status_link_replaced")) == 1


async def test_after_a_replacement_no_self_issued_link_takes_a_key(world: World, acme: CodeHolder) -> None:
    # given whoever has the one-time link, and a link issued over the status page
    spent = await self_issued(acme)
    assert (await world.submit(*spent, world.new_key("acme"))).json()["state"] == "accepted"
    await world.work(hours=2)
    unused = await self_issued(acme)
    # when the status code is replaced
    made = await world.call("POST", f"/v1/credentials/{acme.credential}/status-link")
    # then the codes of all submissions are worthless, and neither link takes a key
    for intake, code in ((acme.intake, acme.secret), (spent[0], world.codes[spent[0]])):
        assert (await world.say("status", intake, code, "open")).json()["code"] == "link_invalid"
    assert (await world.open(*spent)).json()["state"] == "spent"
    assert (await world.open(*unused)).json()["code"] == "intake_expired"
    # and the customer goes on with the new one
    acme.intake, acme.secret = made["status_page"].rpartition("/")[2], made["status_code"]
    assert (await world.submit(*await self_issued(acme), world.new_key("acme"))).json()["state"] == "accepted"


async def test_a_replacement_leaves_the_vendors_own_request_alone(world: World, acme: CodeHolder) -> None:
    _, intake, secret = await world.rotate(acme.credential)
    await world.call("POST", f"/v1/credentials/{acme.credential}/status-link")
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "accepted"


async def test_a_receipt_is_read_again_by_who_submitted_and_nobody_else(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    given = (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["receipt"]
    assert (await world.open(intake, secret)).json() == {
        "vendor": {"name": "Gridwise Compliance", "contact": "keys@gridwise.example"},
        "state": "spent",
    }
    assert (await world.say("status", intake, world.codes[intake], "open")).json()["receipt"] == given


async def self_issued(customer: CodeHolder) -> tuple[str, str]:
    """The intake and secret of a one-time link made over the status page."""
    answer = await customer.send("rotate")
    assert answer.status_code == 200, answer.text
    return following(answer.json(), customer.secret)


async def test_the_links_of_two_customers_reach_nothing_of_each_other(world: World, acme: CodeHolder) -> None:
    globex = await customer_of(world, "globex")
    crossed = CodeHolder(world, acme.credential, globex.intake, acme.secret)
    for step in ("open", "usage", "pause", "withdraw", "rotate"):
        assert (await crossed.send(step)).json()["code"] == "link_invalid"
    await globex.send("withdraw")
    assert (await acme.sees())["key"]["state"] == "active"


async def exposed(world: World, acme: CodeHolder, **more: Any) -> Any:
    report = {"found_by": "Sven", "where": "a public repository", **more}
    return await world.call("POST", f"/v1/credentials/{acme.credential}/exposure", json=report)


async def test_after_an_exposure_they_submit_or_withdraw(world: World, acme: CodeHolder) -> None:
    await exposed(world, acme)
    seen = await acme.sees()
    assert seen["can"] == {"submit": True, "pause": False, "withdraw": True}
    assert (seen["key"]["state"], seen["wanted"], seen["serves"]) == ("revoked", True, False)
    intake, secret = await self_issued(acme)
    assert (await world.open(intake, secret)).json()["present_serves"] is False
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "accepted"
    assert (await acme.sees())["can"] == {"submit": True, "pause": True, "withdraw": True}


async def test_a_key_that_waits_can_be_withdrawn_and_nothing_more_is_asked_for(world: World) -> None:
    world.upstream.faults = Faults(outage=True)
    acme = await customer_of(world, "acme")
    seen = await acme.sees()
    assert (seen["key"]["state"], seen["can"]) == ("verifying", {"submit": False, "pause": False, "withdraw": True})
    refused = await acme.send("rotate")
    assert (refused.status_code, refused.json()["code"]) == (409, "rotation_open")
    assert (await acme.send("withdraw")).json()["key"]["state"] == "destroyed"


@pytest.mark.parametrize("step", ["revoke", "destroy"])
@pytest.mark.parametrize("waits", ["held", "verifying"])
async def test_a_waiting_key_that_the_vendor_takes_out_is_followed_by_another(
    world: World, acme: CodeHolder, waits: str, step: str
) -> None:
    rotation, intake, secret = await world.rotate(acme.credential)
    stranger = world.upstream.add_organization("empty", facilities=0)
    world.upstream.faults = Faults(outage=waits == "verifying")
    assert (await world.submit(intake, secret, world.upstream.add_key(stranger)[1])).json()["state"] == waits
    assert (await acme.sees())["waits"] is True
    await world.call("POST", f"/v1/credentials/{acme.credential}/versions/2/{step}", json={})

    world.upstream.faults = Faults()
    assert (await world.rotation(rotation))["state"] == "requested"
    reopened = await world.call("GET", f"/v1/intakes/{intake}")
    assert (reopened["state"], reopened["refusal"]) == ("open" if waits == "verifying" else "expired", "cut_off")
    # the link works on where a submission can still be opened; and a new one can be had by either side
    assert (await world.open(intake, secret)).status_code == (200 if waits == "verifying" else 410)
    assert (await world.call("POST", f"/v1/intakes/{intake}/link", json={}))["intake"]["state"] == "open"
    fresh = await self_issued(acme)
    assert "taken out" in (await world.open(*fresh)).json()["last_refusal"]["message"]
    assert (await world.submit(*fresh, world.new_key("acme"))).json()["state"] == "accepted"


@pytest.mark.parametrize("old", ["serves", "is dead too"])
async def test_a_new_key_that_fails_is_given_up_for_the_next_one(
    world: World, acme: CodeHolder, sync: Job, old: str
) -> None:
    rotation, intake, secret = await world.rotate(acme.credential)
    new = world.new_key("acme")
    await world.submit(intake, secret, new)
    assert (await acme.sees())["can"]["submit"] is False, "the new key proves itself first"
    lease = await sync.lease("acme")
    world.revoke_upstream(new)
    await world.noticed(lease, acme.credential, 2)
    if old == "is dead too":
        world.revoke_upstream(world.upstream_keys["acme"])
        await world.noticed(lease, acme.credential, 1)
    assert (await world.rotation(rotation))["state"] == "failing"
    assert (await acme.sees())["can"]["submit"] is True
    fresh = await self_issued(acme)
    assert (await world.rotation(rotation))["state"] == ("rolled_back" if old == "serves" else "completed")
    assert (await world.submit(*fresh, world.new_key("acme"))).json()["state"] == "accepted"
    assert (await world.proxied(await sync.lease("acme"), "/facilities")).status_code == 200


async def test_a_first_key_that_was_refused_is_submitted_again_over_its_own_request(
    world: World, acme: CodeHolder
) -> None:
    world.upstream.faults = Faults(outage=True)
    globex = await customer_of(world, "globex")
    world.revoke_upstream(world.upstream_keys["globex"])
    world.upstream.faults = Faults()
    await world.work(seconds=61)
    seen = await globex.sees()
    assert (seen["key"]["state"], seen["can"]["submit"]) == ("refused", True)
    fresh = await self_issued(globex)
    assert fresh[0] == globex.intake
    assert (await world.submit(*fresh, world.new_key("globex"))).json()["state"] == "accepted"


async def test_an_old_code_controls_the_present_key_whatever_became_of_its_own(world: World, acme: CodeHolder) -> None:
    rotation, intake, secret = await world.rotate(acme.credential)
    new = world.new_key("acme")
    await world.submit(intake, secret, new)
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    await world.call("POST", f"/v1/credentials/{acme.credential}/versions/1/destroy", json={})
    seen = await acme.sees()
    assert (seen["key"]["last4"], seen["key"]["state"]) == (new[-4:], "active")
    assert seen["can"] == {"submit": True, "pause": True, "withdraw": True}


async def test_whoever_guesses_can_not_keep_the_holder_out(world: World, acme: CodeHolder) -> None:
    from broker.formats.link_secret import new

    guess = CodeHolder(world, acme.credential, acme.intake, new())
    while (await guess.send("withdraw")).status_code != 429:
        pass
    assert (await acme.send("pause")).status_code == 200
    assert (await acme.send("withdraw")).status_code == 200


async def test_wrong_links_are_limited(world: World, acme: CodeHolder) -> None:
    from broker.formats.link_secret import new

    guess = CodeHolder(world, acme.credential, acme.intake, new())
    codes = [(await guess.send("withdraw")).status_code for _ in range(22)]
    assert codes[0] == 404
    assert codes[-1] == 429
