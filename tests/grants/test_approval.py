"""Nobody reads a key alone: grants to see keys, and admins, wait for a second person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker import app as composition
from broker.client.identity import generate, public
from tests.support.world import Job, World, running_world, settings_for, upstream


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    """A broker as it is by default: approvals are on."""
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, database_url, url, reveal_approval="on")
        async with running_world(settings, state, url) as world:
            yield world


async def second(world: World, name: str = "bea") -> dict[str, str]:
    """An admin whose account was made apart, with a token that the server printed."""
    token = await composition.bootstrap_token(world.services, replace=True)
    made = await world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": name})
    return {"Authorization": f"Bearer {made['token']}"}


async def asked(world: World, **more: str) -> tuple[Job, str]:
    """A job, and its grant to see acme's key, that waits."""
    await world.key_for("acme")
    job = await world.job()
    return job, await world.grant(job, "acme", modes=("reveal", "use"), **more)


async def test_a_grant_to_see_a_key_gives_nothing_until_a_second_person_approves_it(world: World) -> None:
    bea = await second(world)
    job, grant = await asked(world)
    # given that it waits, shown to both
    for who in (world.admin, bea):
        (waiting,) = (await world.call("GET", "/v1/grants", as_=who, params={"waiting": "true"}))["items"]
        assert (waiting["id"], waiting["state"]) == (grant, "waiting")
    noticed = [one["kind"] for one in (await world.call("GET", "/v1/notices", as_=bea))["items"]]
    assert sorted(noticed) == ["grant_waits", "recovery_offered"]
    for mode in ("use", "reveal"):
        assert (await job.ask("acme", mode=mode)).json()["code"] == "no_grant"
    call = {"workload": job.id, "organization": "acme", "provider": "raptor-comply", "method": "GET", "path": "/"}
    told = await world.call("POST", "/v1/grants/explain", json=call)
    assert (told["reason"], told["cause"]) == ("no_grant", "grant_waiting")
    assert told["fix"].endswith(f"`broker grant approve {grant}`.")
    # when she approves it, then it gives what it says
    approved = await world.call("POST", f"/v1/grants/{grant}/approve", as_=bea)
    assert approved["state"] == "active"
    assert (await job.lease("acme", mode="reveal"))["key"] == world.upstream_keys["acme"]
    # and it is on the record who it was, and on whose request
    (event,) = await world.events(kind="grant.approved")
    ada = (await world.call("GET", "/v1/operators/me"))["id"]
    assert (event["personal"]["actor_name"], event["personal"]["note"]) == ("bea", f"asked for by {ada}")
    # again: no change
    await world.call("POST", f"/v1/grants/{grant}/approve", as_=bea)
    assert len(await world.events(kind="grant.approved")) == 1


async def test_a_grant_that_only_uses_a_key_needs_nobody(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    await job.lease("acme")


@pytest.mark.parametrize("by", ["self", "made", "maker", "sibling", "grandchild"])
async def test_nobody_approves_their_own_request_through_an_account_they_made(world: World, by: str) -> None:
    bea = await second(world)
    child = await world.operator("child", "operator", "security")
    sibling = await world.operator("sibling", "security")
    _, of_admin = await asked(world)
    of_child = (
        await world.call(
            "POST",
            "/v1/grants",
            as_=child,
            status=201,
            json={"workload": "sync", "organizations": ["acme"], "provider": "raptor-comply", "modes": ["reveal"]},
        )
    )["items"][0]["id"]
    if by == "grandchild":
        wanted = {"name": "admin2", "roles": ["admin"]}
        made = await world.call("POST", "/v1/operators", status=201, json=wanted)
        await world.call("POST", f"/v1/operators/{made['operator']['id']}/approve", as_=bea)
        admin2 = await world.signed_in(made["link"])
        wanted = {"name": "grandchild", "roles": ["security"]}
        made = await world.call("POST", "/v1/operators", as_=admin2, status=201, json=wanted)
        approver, grant = await world.signed_in(made["link"]), of_admin
    else:
        approver, grant = {
            "self": (world.admin, of_admin),
            "made": (child, of_admin),
            "maker": (world.admin, of_child),
            "sibling": (sibling, of_child),
        }[by]
    refused = await world.call("POST", f"/v1/grants/{grant}/approve", as_=approver, status=403)
    assert refused["code"] == "not_a_second_person"
    await world.call("POST", f"/v1/grants/{grant}/approve", as_=bea)


async def test_nobody_makes_a_way_in_to_an_account_that_could_approve_what_they_ask_for(world: World) -> None:
    """Whoever has a link signs in by it, so they would be their own second person."""
    bea = await second(world)
    refused = await world.call("POST", "/v1/operators/bea/link", status=403)
    assert refused["code"] == "not_a_second_person"
    assert "`broker operator recover`" in refused["detail"]
    # of those that go back to the same person, and those that approve nothing, links are made as ever
    for name, roles in (("dana", ["operator"]), ("sam", ["security"])):
        await world.call("POST", "/v1/operators", as_=bea, status=201, json={"name": name, "roles": roles})
    await world.call("POST", "/v1/operators/dana/link")
    await world.call("POST", "/v1/operators/sam/link", status=403)
    await world.call("POST", "/v1/operators/sam/link", as_=bea)
    await world.call("POST", "/v1/operators/bea/link", as_=bea)


async def test_an_operator_can_not_approve(world: World) -> None:
    bea = await second(world)
    made = await world.call("POST", "/v1/operators", as_=bea, status=201, json={"name": "op", "roles": ["operator"]})
    _, grant = await asked(world)
    as_ = await world.signed_in(made["link"])
    await world.call("POST", f"/v1/grants/{grant}/approve", as_=as_, status=403)


async def test_what_nobody_answers_expires_after_three_days(world: World) -> None:
    bea = await second(world)
    job, grant = await asked(world)
    world.clock.forward(hours=72)
    assert (await world.call("GET", f"/v1/grants/{grant}"))["state"] == "expired"
    assert (await world.call("GET", "/v1/grants", params={"waiting": "true"}))["items"] == []
    refused = await world.call("POST", f"/v1/grants/{grant}/approve", as_=bea, status=409)
    assert "72 hours" in refused["detail"]
    assert (await job.ask("acme", mode="reveal")).json()["code"] == "no_grant"


async def test_what_was_revoked_is_not_approved(world: World) -> None:
    bea = await second(world)
    _, grant = await asked(world)
    await world.call("POST", f"/v1/grants/{grant}/revoke", as_=bea, json={"reason": "no"})
    await world.call("POST", f"/v1/grants/{grant}/approve", as_=bea, status=409)


async def test_an_admins_account_does_nothing_until_a_second_person_approves_it(world: World) -> None:
    bea = await second(world)
    made = await world.call("POST", "/v1/operators", status=201, json={"name": "cyd", "roles": ["admin"]})
    account, secret = made["operator"]["id"], {"secret": made["link"].partition("#")[2]}
    assert made["operator"]["state"] == "waiting"
    waits = await world.call("POST", "/v1/sessions", status=409, json=secret)
    assert "waits for a second person's approval" in waits["detail"]
    await world.call("POST", f"/v1/operators/{account}/approve", status=403)
    assert (await world.call("POST", f"/v1/operators/{account}/approve", as_=bea))["state"] == "active"
    await world.call("GET", "/v1/operators", as_=await world.signed_in(made["link"]))
    (event,) = await world.events(kind="operator.approved")
    ada = (await world.call("GET", "/v1/operators/me"))["id"]
    assert event["personal"]["note"] == f"cyd, asked for by {ada}"


async def test_a_name_that_only_an_unanswered_account_has_is_free(world: World) -> None:
    wanted = {"name": "cyd", "roles": ["admin"]}
    await world.call("POST", "/v1/operators", status=201, json=wanted)
    await world.call("POST", "/v1/operators", status=409, json=wanted)
    world.clock.forward(hours=72)
    await world.call("POST", "/v1/operators", status=201, json=wanted)


async def test_an_unapproved_admin_is_not_the_one_who_is_left(world: World) -> None:
    await world.call("POST", "/v1/operators", status=201, json={"name": "cyd", "roles": ["admin"]})
    me = (await world.call("GET", "/v1/operators/me"))["id"]
    refused = await world.call("POST", f"/v1/operators/{me}/revoke", status=409)
    assert "last admin" in refused["detail"]


async def test_no_operator_makes_a_key_pair_for_a_job_that_may_see_keys(world: World) -> None:
    """Whoever made it could see them; the job itself is who was approved."""
    job, grant = await asked(world)
    private = generate()
    (jwk,) = public(private)["keys"]
    body = {"jwk": jwk, "overlap_seconds": 0}
    await world.call("POST", f"/v1/grants/{grant}/approve", as_=await second(world))
    refused = await world.call("POST", f"/v1/workloads/{job.id}/keys", status=409, json=body)
    assert refused["code"] == "job_sees_keys"
    assert (await job.token()).status_code == 200
    await world.call("POST", f"/v1/workloads/{job.id}/keys", as_=await job.headers(), json=body)
    assert (await job.token()).status_code == 401
