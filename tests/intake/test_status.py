"""The customer's status link: what they see, and what they may decide at any time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from broker.formats import linksecret
from broker.sandbox.state import Faults
from tests.support.world import Job, World


@dataclass
class Customer:
    """acme's Organization Admin, who gave a key and holds its status link."""

    world: World
    credential: str
    intake: str
    secret: str

    async def send(self, step: str, **more: Any) -> httpx2.Response:
        """What the page does."""
        body = {"proof": linksecret.proof(self.secret), **more}
        return await self.world.http.post(f"/status/{self.intake}/{step}", json=body)

    async def sees(self) -> dict[str, Any]:
        """The status."""
        answer = await self.send("open")
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]


async def customer_of(world: World, slug: str) -> Customer:
    await world.organization(slug)
    intake, secret = await world.request_key(slug)
    receipt = (await world.submit(intake, secret, world.upstream_keys[slug])).json()["receipt"]
    credential = (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]
    path, _, status_secret = receipt["status_url"].partition("#")
    return Customer(world, credential, path.rpartition("/")[2], status_secret)


@pytest.fixture
async def acme(world: World) -> Customer:
    return await customer_of(world, "acme")


@pytest.fixture
async def sync(world: World, acme: Customer) -> Job:
    job = await world.job("nightly-sync")
    await world.grant(job, "acme", modes=("use", "reveal"), max_ttl=86_400)
    return job


async def test_they_see_who_used_the_key_how_often_and_when(world: World, acme: Customer, sync: Job) -> None:
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


async def test_a_paused_key_is_used_by_nobody_until_it_is_resumed(world: World, acme: Customer, sync: Job) -> None:
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


async def test_not_even_the_broker_uses_a_paused_key(world: World, acme: Customer) -> None:
    await acme.send("pause")
    world.upstream.requests.clear()
    for _ in range(3):
        await world.work(hours=30)
    assert list(world.upstream.requests) == []
    await acme.send("resume")
    await world.work(hours=2)
    assert len(world.upstream.requests) == 1


async def test_pausing_ends_calls_under_way(world: World, acme: Customer, sync: Job) -> None:
    lease = await sync.lease("acme")
    world.upstream.faults = Faults(latency_ms=5_000)
    waiting = asyncio.create_task(world.proxied(lease, "/facilities"))
    while not world.upstream.requests or world.upstream.requests[-1]["path"] != "/facilities":
        await asyncio.sleep(0.01)
    while len(world.services.flights) == 0:
        await asyncio.sleep(0.01)
    assert (await acme.send("pause")).status_code == 200
    cut = await waiting
    assert (cut.status_code, cut.json()["code"]) == (403, "key_paused")


async def test_withdrawal_is_for_good_and_recorded_as_theirs(world: World, acme: Customer, sync: Job) -> None:
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


async def test_they_submit_the_next_key_themselves(world: World, acme: Customer, sync: Job) -> None:
    opened = (await acme.send("rotate")).json()["intake_url"]
    first = opened.partition("#")
    again = (await acme.send("rotate")).json()["intake_url"].partition("#")
    assert first[0] == again[0], "one request"
    intake, secret = again[0].rpartition("/")[2], again[2]
    assert (await world.open(intake, first[2])).json()["code"] == "link_invalid", "the link before stops working"
    new = world.new_key("acme")
    assert (await world.submit(intake, secret, new)).json()["state"] == "accepted"

    seen = await acme.sees()
    assert (seen["key"]["last4"], seen["key"]["state"]) == (new[-4:], "active"), "the old link shows the present key"
    assert [(key["last4"], key["state"]) for key in seen["older"]] == [(world.upstream_keys["acme"][-4:], "retiring")]
    refused = await acme.send("rotate")
    assert (refused.status_code, refused.json()["code"]) == (409, "rotation_open")

    await world.work(hours=2)
    assert [key["state"] for key in (await acme.sees())["older"]] == ["awaiting"]
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=1)
    assert [key["state"] for key in (await acme.sees())["older"]] == ["revoked"]


async def test_a_request_of_the_vendor_waits_on_the_page(world: World, acme: Customer) -> None:
    assert (await acme.sees())["wanted"] is False
    await world.rotate(acme.credential)
    assert (await acme.sees())["wanted"] is True
    assert (await acme.send("rotate")).status_code == 200


async def test_a_key_that_upstream_refuses_says_so(world: World, acme: Customer) -> None:
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=30)
    assert (await acme.sees())["key"]["state"] == "failing"


async def test_a_leaked_link_is_replaced_and_controls_nothing_any_more(world: World, acme: Customer) -> None:
    leaked = acme.secret
    made = await world.call("POST", f"/v1/credentials/{acme.credential}/status-link")
    for step in ("open", "usage", "pause", "resume", "withdraw", "rotate"):
        refused = await acme.send(step)
        assert (refused.status_code, refused.json()["code"]) == (404, "link_invalid"), step
    acme.secret = made["link"].partition("#")[2]
    assert acme.secret != leaked
    assert (await acme.sees())["key"]["state"] == "active"
    assert len(await world.events(kind="intake.status_link_replaced")) == 1


async def test_the_links_of_two_customers_reach_nothing_of_each_other(world: World, acme: Customer) -> None:
    globex = await customer_of(world, "globex")
    crossed = Customer(world, acme.credential, globex.intake, acme.secret)
    for step in ("open", "usage", "pause", "withdraw", "rotate"):
        assert (await crossed.send(step)).json()["code"] == "link_invalid"
    await globex.send("withdraw")
    assert (await acme.sees())["key"]["state"] == "active"


async def test_wrong_links_are_limited(world: World, acme: Customer) -> None:
    from broker.formats.linksecret import new

    guess = Customer(world, acme.credential, acme.intake, new())
    codes = [(await guess.send("withdraw")).status_code for _ in range(22)]
    assert codes[0] == 404
    assert codes[-1] == 429
