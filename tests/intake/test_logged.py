"""Links whose secret reached servers on the way: they work on, and operators make new ones."""

from __future__ import annotations

from typing import Any

from broker.formats import link_secret
from tests.support.links import old_status_link
from tests.support.world import World


async def came_logged(world: World, page: str, intake: str, secret: str) -> dict[str, Any]:
    """What the page asks where it found the secret in its path."""
    answer = await world.say(page, intake, secret, "open", in_address=True)
    assert answer.status_code == 200, answer.text
    asked: dict[str, Any] = answer.json()
    return asked


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


async def test_a_link_that_is_spent_leads_nowhere_and_needs_no_word(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    assert (await came_logged(world, "intake", intake, secret))["state"] == "spent"
    assert await told(world) == []


async def test_a_status_link_is_told_once(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    status = await old_status_link(world, intake)
    for _ in range(2):
        assert (await came_logged(world, "status", intake, status))["key"]["state"] == "active"
    assert await told(world) == ["status_link_logged"]
    assert len(await world.events(kind="intake.status_link_logged")) == 1


async def test_a_wrong_secret_tells_nothing(world: World) -> None:
    await world.organization("acme")
    intake, _ = await world.request_key("acme")
    for page in ("intake", "status"):
        assert (await world.say(page, intake, link_secret.new(), "open", in_address=True)).status_code == 404
    assert await told(world) == []
