"""Rotation without downtime: the new key proves itself, the old one retires when nobody needs it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.sandbox.state import Faults
from tests.support.world import Job, World


@pytest.fixture
async def acme(world: World) -> str:
    """A customer with a key in use, and the job ``sync``; the credential's id."""
    return await world.key_for("acme")


@pytest.fixture
async def sync(world: World, acme: str) -> Job:
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"), max_ttl=86_400)
    return job


async def rotated(world: World, credential: str, **more: Any) -> tuple[dict[str, Any], str]:
    """A rotation whose new key is in use; it and the new key."""
    rotation, intake, secret = await world.rotate(credential, **more)
    key = world.new_key("acme")
    assert (await world.submit(intake, secret, key)).json()["state"] == "accepted"
    return rotation, key


def key_ids(world: World) -> list[str]:
    """Which keys upstream saw, in order."""
    return [request["key"] for request in world.upstream.requests]


def id_of(world: World, key: str) -> str:
    found = world.upstream.key_of(key)
    assert found is not None
    return found.id


async def test_the_new_key_serves_at_once_and_leases_that_saw_the_old_run_to_their_end(
    world: World, acme: str, sync: Job
) -> None:
    # given a job that calls through the broker, and one that saw the key
    used = await sync.lease("acme")
    seen = await sync.lease("acme", mode="reveal", ttl=7200)
    assert seen["key"] == world.upstream_keys["acme"]

    # when the customer submits a new key
    rotation, new = await rotated(world, acme)

    # then it is in use, for new leases and for uses under the old one
    assert await world.states(acme) == ["retiring", "active"]
    assert (await world.rotation(rotation))["state"] == "grace"
    assert (await sync.lease("acme", mode="reveal"))["key"] == new
    world.upstream.requests.clear()
    assert (await world.proxied(used, "/facilities")).status_code == 200
    assert key_ids(world) == [id_of(world, new)]

    # and the lease that saw the old key stands, but is not renewed beyond its end
    assert (await world.proxied(seen, "/facilities")).status_code == 200
    headers = await sync.headers()
    refused = await world.call("POST", f"/v1/leases/{seen['lease']['id']}/renew", as_=headers, status=403, json={})
    assert refused["code"] == "key_rotated"

    # and the old key stays, past the grace window, until that lease is over
    await world.work(hours=1.5)
    assert await world.states(acme) == ["retiring", "active"]
    await world.work(hours=0.6)
    assert await world.states(acme) == ["revoked", "active"]
    assert (await world.rotation(rotation))["state"] == "completed"


async def test_a_lease_that_saw_the_old_key_holds_it_until_the_deadline_and_no_longer(
    world: World, acme: str, sync: Job
) -> None:
    seen = await sync.lease("acme", mode="reveal", ttl=86_400)
    rotation, _ = await rotated(world, acme, deadline_hours=6)

    holders = await world.call("GET", f"/v1/credentials/{acme}/versions/1/holders")
    assert holders["held"] is True
    assert [(one["name"], one["open_reveals"]) for one in holders["items"]] == [("sync", 1)]

    await world.work(hours=5)
    assert await world.states(acme) == ["retiring", "active"], "still held"
    await world.work(hours=1.1)
    assert await world.states(acme) == ["revoked", "active"], "the deadline has come"
    assert (await world.proxied(seen, "/facilities")).json()["code"] == "key_revoked"
    retired = await world.events(kind="credential.version.retired")
    assert [event["core"]["reason"] for event in retired] == ["deadline"]
    assert (await world.rotation(rotation))["state"] == "completed"


async def test_a_use_lease_of_the_old_key_goes_on_after_it_retired(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme", ttl=86_400)
    rotation, new = await rotated(world, acme)
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    assert await world.states(acme) == ["revoked", "active"]
    world.upstream.requests.clear()
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert key_ids(world) == [id_of(world, new)]


async def test_who_used_which_version_is_told_apart(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme")
    await world.proxied(lease, "/facilities")
    await rotated(world, acme)
    await world.proxied(lease, "/facilities")
    await world.proxied(lease, "/facilities")
    old, new = [
        (await world.call("GET", f"/v1/credentials/{acme}/versions/{number}/holders"))["items"] for number in (1, 2)
    ]
    assert [(one["uses"], one["open_leases"], one["open_reveals"]) for one in old] == [(1, 1, 0)]
    assert [(one["uses"], one["open_leases"]) for one in new] == [(2, 0)]
    assert old[0]["last_use"] < new[0]["last_use"]


async def test_a_new_key_that_upstream_refuses_falls_back_to_the_old_within_the_call(
    world: World, acme: str, sync: Job
) -> None:
    lease = await sync.lease("acme")
    rotation, new = await rotated(world, acme)
    world.revoke_upstream(new)

    # the job notices nothing, whatever its method
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    made = await world.proxied(lease, "/cyber-assets", "POST", json={"name": "RTU 9"})
    assert made.status_code == 201
    uses = [event["core"] for event in await world.events(kind="use.authorized")]
    assert [use["version"] for use in uses] == [2, 1, 2, 1], "every try is on the record, with the key it used"

    # upstream is asked, the rotation is failing, and operators are told
    await world.work()
    assert (await world.rotation(rotation))["state"] == "failing"
    assert "rotation_failing" in await notices(world)
    world.upstream.requests.clear()
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert key_ids(world) == [id_of(world, world.upstream_keys["acme"])], "straight to the old key"

    # it never retires by itself
    await world.work(hours=24 * 30)
    assert await world.states(acme) == ["retiring", "active"]
    assert (await world.call("POST", f"/v1/rotations/{rotation['id']}/promote", status=409))["move"] == (
        "promote_from_failing"
    )

    # and rolling back makes the old one the key again
    await world.call("POST", f"/v1/rotations/{rotation['id']}/rollback", json={"reason": "typo upstream"})
    assert await world.states(acme) == ["active", "revoked"]
    assert (await world.rotation(rotation))["state"] == "rolled_back"


async def test_a_new_key_that_upstream_takes_again_ends_the_failing(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme")
    rotation, new = await rotated(world, acme)
    world.revoke_upstream(new)
    await world.proxied(lease, "/facilities")
    await world.work()
    assert (await world.rotation(rotation))["state"] == "failing"
    found = world.upstream.key_of(new)
    assert found is not None
    found.state = "active"
    await world.work(seconds=120)
    assert (await world.rotation(rotation))["state"] == "grace"


async def notices(world: World) -> list[str]:
    return [notice["kind"] for notice in (await world.call("GET", "/v1/notices", params={"limit": 500}))["items"]]


async def test_a_key_of_another_organization_is_refused_and_the_link_still_works(world: World, acme: str) -> None:
    await world.organization("globex")
    await world.key_for("initech")
    rotation, intake, secret = await world.rotate(acme)
    refused = await world.submit(intake, secret, world.upstream_keys["initech"])
    assert refused.json()["code"] == "key_other_organization"
    other = world.new_key("initech")
    refused = await world.submit(intake, secret, other)
    assert refused.json()["code"] == "key_other_organization"
    assert (await world.rotation(rotation))["state"] == "requested"
    assert (await world.states(acme))[0] == "active"
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "accepted"


async def test_the_same_key_again_is_refused(world: World, acme: str) -> None:
    rotation, intake, secret = await world.rotate(acme)
    refused = await world.submit(intake, secret, world.upstream_keys["acme"])
    assert (refused.status_code, refused.json()["code"]) == (409, "key_held")
    assert await world.states(acme) == ["active"]
    assert (await world.rotation(rotation))["state"] == "requested"


@pytest.mark.parametrize("facilities", [0, 3], ids=["nothing returned", "nothing in common"])
async def test_an_unproven_key_waits_for_an_operator_who_sees_both_facts(
    world: World, acme: str, facilities: int
) -> None:
    # given a key from a tenant that this broker doesn't know
    stranger = world.upstream.add_organization("stranger", facilities)
    rotation, intake, secret = await world.rotate(acme)
    held = await world.submit(intake, secret, world.upstream.add_key(stranger)[1])
    assert held.json()["state"] == "held"

    # then nothing changed, and the facts are shown
    assert await world.states(acme) == ["active", "verified"]
    shown = await world.rotation(rotation)
    assert (shown["state"], shown["ids_of_new_key"], shown["ids_known_before"], shown["ids_in_both"]) == (
        "held",
        facilities,
        3,
        0,
    )
    assert "rotation_held" in await notices(world)

    # when the operator decides for it, it is in use
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    assert await world.states(acme) == ["retiring", "active"]


@pytest.mark.parametrize("decision", ["rotations/{rotation}/promote", "credentials/{credential}/versions/2/activate"])
async def test_a_held_key_that_is_decided_for_answers_its_request(world: World, acme: str, decision: str) -> None:
    stranger = world.upstream.add_organization("stranger", 3)
    rotation, intake, secret = await world.rotate(acme)
    held = await world.submit(intake, secret, world.upstream.add_key(stranger)[1])
    assert held.json()["state"] == "held"

    await world.call("POST", f"/v1/{decision.format(rotation=rotation['id'], credential=acme)}")

    assert await world.states(acme) == ["retiring", "active"]
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["state"] == "accepted"
    accepted = [event["core"] for event in await world.events(kind="intake.accepted")]
    assert [(one["actor"]["type"], one["reason"]) for one in accepted] == [("broker", "held"), ("operator", "decided")]


async def test_a_held_key_claims_no_ids_before_the_decision(world: World, acme: str) -> None:
    await world.organization("globex")
    there = next(one for one in world.upstream.organizations.values() if one.name == "globex")
    rotation, intake, secret = await world.rotate(acme)
    assert (await world.submit(intake, secret, world.upstream.add_key(there)[1])).json()["state"] == "held"
    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    # globex's own key is still globex's
    wanted = {"organization": "globex", "provider": "raptor-comply", "key": world.upstream_keys["globex"]}
    assert (await world.call("POST", "/v1/credentials", status=201, json=wanted))["verdict"] == "active"


async def test_one_rotation_at_a_time(world: World, acme: str) -> None:
    wanted = {"contact": "admin@acme.example"}
    answers = await asyncio.gather(
        *(world.http.post(f"/v1/credentials/{acme}/rotate", headers=world.admin, json=wanted) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"rotation_open"}


async def test_steps_that_the_state_does_not_have_are_refused_by_name(world: World, acme: str) -> None:
    rotation, intake, secret = await world.rotate(acme)

    async def refused(step: str) -> str:
        answer = await world.call(
            "POST", f"/v1/rotations/{rotation['id']}/{step}", status=409, json=None if step == "promote" else {}
        )
        return str(answer["move"])

    assert await refused("promote") == "promote_from_requested"
    assert await refused("rollback") == "roll_back_from_requested"
    await world.submit(intake, secret, world.new_key("acme"))
    assert await refused("cancel") == "cancel_from_grace"
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    assert await refused("promote") == "promote_from_completed"
    assert await refused("rollback") == "roll_back_from_completed"
    assert await refused("cancel") == "cancel_from_completed"


async def test_a_refused_step_says_what_can_be_done_instead(world: World, acme: str) -> None:
    rotation, intake, secret = await world.rotate(acme)
    to = rotation["id"]

    async def told(step: str) -> str:
        answer = await world.call(
            "POST", f"/v1/rotations/{to}/{step}", status=409, json=None if step == "promote" else {}
        )
        return str(answer["detail"])

    instead = f"Instead, wait for the customer's key, or `broker rotation cancel {to}`."
    assert await told("promote") == f"The rotation is 'requested': it has nothing to promote. {instead}"
    assert await told("rollback") == f"The rotation is 'requested': it has nothing to roll back. {instead}"
    await world.submit(intake, secret, world.new_key("acme"))
    assert (await told("cancel")).endswith(
        f"nothing to cancel. Instead, `broker rotation promote {to}`, or `broker rotation rollback {to}`."
    )
    await world.call("POST", f"/v1/rotations/{to}/promote")
    assert (await told("cancel")).endswith(f"it is over. `broker key rotate {acme}` begins another one.")


async def test_a_cancelled_rotation_leaves_the_old_key_and_kills_its_link(world: World, acme: str) -> None:
    rotation, intake, secret = await world.rotate(acme)
    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    assert (await world.open(intake, secret)).json()["code"] == "intake_cancelled"
    assert await world.states(acme) == ["active"]
    await world.rotate(acme)  # another one can begin


async def test_a_lost_link_is_replaced_and_an_expired_one_too(world: World, acme: str) -> None:
    _, intake, secret = await world.rotate(acme, hours=1)
    again = await world.call("POST", f"/v1/intakes/{intake}/link", json={})
    assert (await world.open(intake, secret)).json()["code"] == "link_invalid"
    await world.work(hours=80)
    expired = again["link"].partition("#")[2]
    assert (await world.open(intake, expired)).json()["code"] == "intake_expired"
    fresh = (await world.call("POST", f"/v1/intakes/{intake}/link", json={}))["link"].partition("#")[2]
    assert (await world.submit(intake, fresh, world.new_key("acme"))).json()["state"] == "accepted"
    assert await world.states(acme) == ["retiring", "active"]


async def test_upstream_that_is_down_for_a_day_delays_a_rotation_and_loses_nothing(
    world: World, acme: str, sync: Job
) -> None:
    rotation, intake, secret = await world.rotate(acme)
    world.upstream.faults = Faults(outage=True)
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "verifying"
    for _ in range(12):
        await world.work(hours=2)
    assert await world.states(acme) == ["active", "staged"]
    assert (await world.rotation(rotation))["state"] == "verifying"
    assert (await sync.ask("acme")).status_code == 201, "the old key is in force all the while"
    world.upstream.faults = Faults()
    await world.work(hours=2)
    assert await world.states(acme) == ["retiring", "active"]


async def test_a_customer_who_revokes_the_old_key_too_early_finds_the_new_one_taken(
    world: World, acme: str, sync: Job
) -> None:
    rotation, intake, secret = await world.rotate(acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=30)  # the scheduled check notices
    refused = await sync.ask("acme")
    assert refused.json()["code"] == "key_failing"
    assert "revoked" in refused.json()["detail"]
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "accepted"
    assert (await sync.ask("acme")).status_code == 201
    await world.work(hours=2)
    assert await world.states(acme) == ["revoked", "active"]
    await world.work()
    assert (await world.versions(acme))[0]["status"].startswith("revoked (confirmed upstream at ")
    assert (await world.rotation(rotation))["state"] == "completed"


async def test_a_clock_that_steps_back_retires_nothing_early_and_breaks_nothing(
    world: World, acme: str, sync: Job
) -> None:
    lease = await sync.lease("acme")
    await rotated(world, acme)
    world.clock.jump(hours=-2)
    await world.work()
    assert await world.states(acme) == ["retiring", "active"]
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    world.clock.jump(hours=2)
    await world.work(hours=1.5)
    assert await world.states(acme) == ["revoked", "active"]


async def test_revoking_the_new_key_in_its_grace_window_brings_the_old_one_back(
    world: World, acme: str, sync: Job
) -> None:
    lease = await sync.lease("acme")
    rotation, _ = await rotated(world, acme)
    await world.call("POST", f"/v1/credentials/{acme}/versions/2/revoke", json={})
    assert await world.states(acme) == ["active", "revoked"]
    assert (await world.rotation(rotation))["state"] == "rolled_back"
    assert (await world.proxied(lease, "/facilities")).status_code == 200


async def test_a_key_that_was_rolled_back_is_used_by_nobody_from_memory(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme")
    rotation, _new = await rotated(world, acme)
    assert (await world.proxied(lease, "/facilities")).status_code == 200  # remembered
    await world.call("POST", f"/v1/rotations/{rotation['id']}/rollback", json={"reason": "x"})
    world.upstream.requests.clear()
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert key_ids(world) == [id_of(world, world.upstream_keys["acme"])]


async def test_a_retired_key_is_fallen_back_to_by_nobody_from_memory(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme")
    rotation, new = await rotated(world, acme)
    assert (await world.proxied(lease, "/facilities")).status_code == 200  # remembered
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    world.revoke_upstream(new)
    world.upstream.requests.clear()
    assert (await world.proxied(lease, "/facilities")).status_code == 401
    assert id_of(world, world.upstream_keys["acme"]) not in key_ids(world)


async def test_a_held_key_that_was_promoted_is_used_at_once(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme")
    assert (await world.proxied(lease, "/facilities")).status_code == 200  # remembered
    rotation, intake, secret = await world.rotate(acme)
    new = world.upstream.add_key(world.upstream.add_organization("stranger", 3))[1]
    assert (await world.submit(intake, secret, new)).json()["state"] == "held"
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    world.upstream.requests.clear()
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert key_ids(world) == [id_of(world, new)]


async def test_a_repeat_shows_no_other_key_than_its_lease_is_for(world: World, acme: str, sync: Job) -> None:
    asked = {"organization": "acme", "provider": "raptor-comply", "mode": "reveal", "ttl": 7200}
    headers = {**await sync.headers(), "Idempotency-Key": "one"}
    first = await world.http.post("/v1/leases", headers=headers, json=asked)
    assert first.json()["key"] == world.upstream_keys["acme"]
    _, new = await rotated(world, acme)
    again = await world.http.post("/v1/leases", headers=headers, json=asked)
    assert (again.status_code, again.json()["code"]) == (403, "key_rotated")
    assert new not in again.text


async def test_revoking_the_credential_ends_its_rotation(world: World, acme: str) -> None:
    rotation, intake, secret = await world.rotate(acme)
    await world.call("POST", f"/v1/credentials/{acme}/revoke", json={})
    assert (await world.rotation(rotation))["state"] == "cancelled"
    assert (await world.open(intake, secret)).json()["code"] == "intake_cancelled"
    await world.work()
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["state"] == "expired"
