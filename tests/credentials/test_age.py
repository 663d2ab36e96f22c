"""How old a key may become: whose interval counts, who is asked ahead of time, and what happens to old keys."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.world import World


@pytest.fixture
async def acme(world: World) -> str:
    return await world.key_for("acme")


async def listed(world: World, only: str) -> list[str]:
    found = await world.call("GET", "/v1/credentials", params={"only": only})
    return [item["id"] for item in found["items"]]


async def policy(world: World, credential: str, **wanted: Any) -> None:
    await world.call("POST", f"/v1/credentials/{credential}/policy", json=wanted)


async def test_the_nearest_interval_counts(world: World, acme: str) -> None:
    # the provider says 365 days
    assert await listed(world, "due_soon") == []
    # the organization says less
    await world.call("POST", "/v1/organizations/acme/policy", json={"rotation_days": 20})
    assert await listed(world, "due_soon") == [acme]
    # the credential has the last word
    await policy(world, acme, rotation_days=200)
    assert await listed(world, "due_soon") == []
    await policy(world, acme)
    assert await listed(world, "due_soon") == [acme]


async def test_due_soon_overdue_and_never_used_are_views(world: World, acme: str) -> None:
    await policy(world, acme, rotation_days=10)
    assert (await listed(world, "due_soon"), await listed(world, "overdue")) == ([acme], [])
    world.clock.forward(hours=24 * 11)
    assert (await listed(world, "due_soon"), await listed(world, "overdue")) == ([], [acme])
    assert await listed(world, "never_used") == [acme]
    job = await world.job()
    await world.grant(job, "acme")
    await job.lease("acme")
    assert await listed(world, "never_used") == []


async def test_customers_are_asked_ahead_of_time_once_and_not_again_right_after_it_was_given_up(
    world: World, acme: str
) -> None:
    await policy(world, acme, rotation_days=31)
    await world.work()
    assert (await world.call("GET", "/v1/rotations"))["items"] == [], "not 31 days ahead"
    for _ in range(3):
        await world.work(hours=24)
    (rotation,) = (await world.call("GET", "/v1/rotations"))["items"]
    assert (rotation["kind"], rotation["state"]) == ("automatic", "requested")
    assert await listed(world, "rotating") == [acme]
    # the operator fetches a link for it
    made = await world.call("POST", f"/v1/intakes/{rotation['intake']}/link", json={})
    assert made["link"].startswith("http")

    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    await world.work(hours=24)
    assert len((await world.call("GET", "/v1/rotations"))["items"]) == 1
    await world.work(hours=24 * 7)
    assert len((await world.call("GET", "/v1/rotations"))["items"]) == 2


async def test_an_overdue_key_is_told_of_once(world: World, acme: str) -> None:
    await policy(world, acme, rotation_days=5)
    for _ in range(10):
        await world.work(hours=24)
    told = [one["kind"] for one in (await world.call("GET", "/v1/notices"))["items"]]
    assert told.count("key_overdue") == 1


async def test_a_key_over_its_age_is_refused_where_the_policy_says_so_and_only_there(world: World, acme: str) -> None:
    job = await world.job()
    await world.grant(job, "acme", max_ttl=86_400)
    world.clock.forward(hours=24 * 10)
    lease = await job.lease("acme", ttl=86_400)
    await policy(world, acme, max_age_days=5, on_max_age="warn")
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert await listed(world, "overdue") == [acme]

    await policy(world, acme, max_age_days=5, on_max_age="refuse")
    for refused in (await world.proxied(lease, "/facilities"), await job.ask("acme")):
        assert (refused.status_code, refused.json()["code"]) == (403, "key_too_old")
        assert "broker key rotate" in refused.json()["detail"]

    # and a new key ends that
    _, intake, secret = await world.rotate(acme)
    await world.submit(intake, secret, world.new_key("acme"))
    assert (await world.proxied(lease, "/facilities")).status_code == 200


async def test_a_refusing_policy_without_an_age_is_refused(world: World, acme: str) -> None:
    refused = await world.call("POST", f"/v1/credentials/{acme}/policy", status=422, json={"on_max_age": "refuse"})
    assert refused["detail"].startswith("max_age_days:")
