"""A job gets a new key pair under its grants: by an operator, or by itself."""

from __future__ import annotations

import dataclasses

from broker.client.identity import generate, public
from tests.support.world import Job, World


def key(job: Job) -> tuple[Job, dict[str, object]]:
    """The same job under a fresh key pair, and the public half."""
    private = generate()
    (jwk,) = public(private)["keys"]
    identity = dataclasses.replace(job.identity, private_jwk=private)
    return Job(job.world, identity), jwk


async def may_sign_in(job: Job) -> bool:
    return (await job.token()).status_code == 200


async def test_a_new_key_works_under_the_jobs_grants_and_the_previous_one_for_the_overlap(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    fresh, jwk = key(job)
    body = {"jwk": jwk, "overlap_seconds": 3600}
    shown = await world.call("POST", "/v1/workloads/sync/keys", json=body)
    assert set(shown["key_ids"]) == {job.identity.private_jwk["kid"], jwk["kid"]}
    await fresh.lease("acme")
    world.clock.forward(hours=0.9)
    assert await may_sign_in(job)
    world.clock.forward(hours=0.2)
    assert (await may_sign_in(job), await may_sign_in(fresh)) == (False, True)
    assert (await world.call("GET", "/v1/workloads/sync"))["key_ids"] == [jwk["kid"]]
    refused = (await world.events(kind="auth.token_refused"))[-1]
    assert refused["core"]["reason"] == "bad_signature"


async def test_without_an_overlap_the_previous_key_is_refused_at_once(world: World) -> None:
    job = await world.job()
    fresh, jwk = key(job)
    await world.call("POST", f"/v1/workloads/{job.id}/keys", json={"jwk": jwk, "overlap_seconds": 0})
    assert (await may_sign_in(job), await may_sign_in(fresh)) == (False, True)


async def test_the_same_key_again_changes_nothing(world: World) -> None:
    job = await world.job()
    fresh, jwk = key(job)
    for _ in range(2):
        await world.call("POST", f"/v1/workloads/{job.id}/keys", json={"jwk": jwk, "overlap_seconds": 3600})
    assert len(await world.events(kind="workload.key_added")) == 1
    # a rotation that comes again later neither prolongs the previous key nor ends the new one
    world.clock.forward(hours=0.9)
    await world.call("POST", f"/v1/workloads/{job.id}/keys", json={"jwk": jwk, "overlap_seconds": 3600})
    world.clock.forward(hours=0.2)
    assert (await may_sign_in(job), await may_sign_in(fresh)) == (False, True)


async def test_a_later_rotation_prolongs_no_key_that_ends_already(world: World) -> None:
    job = await world.job()
    second, jwk = key(job)
    await world.call("POST", f"/v1/workloads/{job.id}/keys", json={"jwk": jwk, "overlap_seconds": 600})
    third, jwk = key(job)
    await world.call("POST", f"/v1/workloads/{job.id}/keys", json={"jwk": jwk, "overlap_seconds": 36_000})
    world.clock.forward(hours=1)
    assert [await may_sign_in(one) for one in (job, second, third)] == [False, True, True]


async def test_a_key_says_itself_never_how_long_it_lasts(world: World) -> None:
    job = await world.job()
    fresh, jwk = key(job)
    await world.call("POST", f"/v1/workloads/{job.id}/keys", json={"jwk": {**jwk, "exp": 1}, "overlap_seconds": 0})
    assert await may_sign_in(fresh)


async def test_a_key_under_the_id_of_another_one_or_of_a_previous_one_is_refused(world: World) -> None:
    """Else a success would be answered, and the job could not sign in."""
    job = await world.job()
    fresh, jwk = key(job)
    (first,) = public(job.identity.private_jwk)["keys"]
    path = f"/v1/workloads/{job.id}/keys"
    refused = await world.call("POST", path, status=409, json={"jwk": {**jwk, "kid": first["kid"]}})
    assert "make a new key pair" in refused["detail"]
    await world.call("POST", path, json={"jwk": jwk, "overlap_seconds": 3600})
    await world.call("POST", path, status=409, json={"jwk": first})
    assert await may_sign_in(fresh)


async def test_many_keys_at_once_are_refused(world: World) -> None:
    job = await world.job()
    for status in (200, 200, 200, 200, 409):
        body = {"jwk": key(job)[1], "overlap_seconds": 3600}
        answer = await world.call("POST", f"/v1/workloads/{job.id}/keys", status=status, json=body)
    assert "overlap" in answer["detail"]


async def test_a_job_rotates_its_own_key_and_no_others(world: World) -> None:
    job, other = await world.job("sync"), await world.job("other")
    fresh, jwk = key(job)
    body = {"jwk": jwk, "overlap_seconds": 0}
    headers = await job.headers()
    await world.call("POST", f"/v1/workloads/{other.id}/keys", as_=headers, status=404, json=body)
    await world.call("POST", f"/v1/workloads/{job.id}/keys", as_=headers, json=body)
    assert await may_sign_in(fresh)
    (event,) = await world.events(kind="workload.key_added")
    assert event["core"]["actor"]["id"] == job.id


async def test_an_ended_job_and_an_operator_without_the_role_get_no_new_key(world: World) -> None:
    job = await world.job()
    _, jwk = key(job)
    body = {"jwk": jwk, "overlap_seconds": 0}
    sven = await world.operator("sven", "security")
    await world.call("POST", f"/v1/workloads/{job.id}/keys", as_=sven, status=403, json=body)
    await world.call("POST", f"/v1/workloads/{job.id}/revoke", json={"reason": "over"})
    await world.call("POST", f"/v1/workloads/{job.id}/keys", status=409, json=body)
