"""Links whose secret reached servers on the way: they work on, and operators make new ones."""

from __future__ import annotations

from typing import Any

from broker.formats import linksecret
from tests.support.world import World


async def came_logged(world: World, page: str, intake: str, secret: str) -> dict[str, Any]:
    """What the page asks where it found the secret in its path."""
    body = {"proof": linksecret.proof(secret), "in_address": True}
    answer = await world.http.post(f"/{page}/{intake}/open", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def told(world: World) -> list[str]:
    return [notice["kind"] for notice in (await world.call("GET", "/v1/notices"))["items"]]


async def test_each_link_is_told_once_and_its_replacement_anew(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    for _ in range(2):
        assert (await came_logged(world, "intake", intake, secret))["state"] == "open"
    assert await told(world) == ["link_logged"]
    event = (await world.events(kind="intake.link_logged"))[0]
    assert event["core"]["intake"] == intake
    made = await world.call("POST", f"/v1/intakes/{intake}/link", status=200, json={"hours": 71})
    assert (await world.open(intake, secret)).status_code == 404, "the new link ended it"
    await came_logged(world, "intake", intake, made["link"].partition("#")[2])
    assert await told(world) == ["link_logged"] * 2


async def test_who_reads_a_log_later_is_not_led_to_the_status_link(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await came_logged(world, "intake", intake, secret)
    receipt = (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["receipt"]
    assert (await world.open(intake, secret)).json()["receipt"]["status_url"] is None
    status = receipt["status_url"].partition("#")[2]
    answer = await world.http.post(f"/status/{intake}/open", json={"proof": linksecret.proof(status)})
    assert answer.status_code == 200, "who submitted has one that works"


async def test_a_receipt_that_leads_to_the_status_link_is_told_of_for_as_long_as_it_does(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    assert (await came_logged(world, "intake", intake, secret))["receipt"]["status_url"]
    assert await told(world) == ["status_link_logged"]
    assert len(await world.events(kind="intake.status_link_logged")) == 1
    credential = (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]
    await world.call("POST", f"/v1/credentials/{credential}/status-link")
    await came_logged(world, "intake", intake, secret)
    assert await told(world) == ["status_link_logged"], "a link that leads nowhere needs no word"


async def test_a_wrong_secret_tells_nothing(world: World) -> None:
    await world.organization("acme")
    intake, _ = await world.request_key("acme")
    body = {"proof": linksecret.proof(linksecret.new()), "in_address": True}
    for page in ("intake", "status"):
        assert (await world.http.post(f"/{page}/{intake}/open", json=body)).status_code == 404
    assert await told(world) == []
