"""A dry run says what a real call gets, under which grant, and what would fix a refusal."""

from __future__ import annotations

import random
from typing import Any

import pytest

from broker.base.clock import rfc3339
from tests.support.world import Job, World

PATHS = ("", "/", "/facilities", "/facilities/7", "/facilities/7?page=2", "/devices", "/a/b/c", "/facilities/%37")
UNREADABLE = ("/a/%2e%2e/b", "/a//b", "/a%2Fb", "/a?%25255F%255F=1", "/facilities?_method=DELETE")
METHODS = ("GET", "GET", "POST", "DELETE", "OPTIONS")
RULES = (
    {"methods": ["GET"], "paths": ["/facilities", "/facilities/*"]},
    {"methods": ["POST", "DELETE"], "paths": ["/**"]},
    {"methods": ["GET"], "paths": ["/a/**", "/"]},
)


async def explained(world: World, job: Job, path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    asked = {"workload": job.id, "organization": "acme", "provider": "raptor-comply", "method": method, "path": path}
    found: dict[str, Any] = await world.call("POST", "/v1/grants/explain", json={**asked, **more})
    return found


async def real(world: World, job: Job, path: str, method: str, *, implicit: bool, label: str, purpose: str) -> str:
    """What a real call gets: the code of its refusal, or nothing."""
    if implicit:
        headers = {**await job.headers(), "X-Broker-Label": label, "X-Broker-Purpose": purpose}
        answer = await world.http.request(method, f"/proxy/acme/raptor-comply{path}", headers=headers)
    else:
        answer = await job.ask("acme", label=label, purpose=purpose)
        if answer.status_code == 201:
            answer = await world.proxied(answer.json(), path, method)
    problem = answer.headers.get("content-type") == "application/problem+json"
    return str(answer.json()["code"]) if problem else ""


def terms(chance: random.Random) -> dict[str, Any]:
    """A grant's, at random."""
    return {
        "modes": chance.choice((["use"], ["use"], ["use"], ["reveal"])),
        "label": chance.choice((None, None, "default", "other")),
        "purpose_required": chance.random() < 0.2,
        "implicit": chance.random() < 0.6,
        "max_ttl": chance.choice((60, 600)),
    }


def limits(chance: random.Random) -> dict[str, Any]:
    return {
        "rules": [rule for rule in RULES if chance.random() < 0.5],
        "rate": {"uses": 2, "seconds": 3_600} if chance.random() < 0.3 else None,
        "max_uses": chance.choice((None, None, None, 2)),
    }


@pytest.mark.parametrize("seed", range(6))
async def test_a_dry_run_says_what_a_real_call_gets(world: World, seed: int) -> None:
    chance, seen = random.Random(seed), set()
    await world.key_for("acme")
    for number in range(4):
        job = await world.job(f"job-{number}")
        for _ in range(chance.randint(0, 3)):
            wanted = terms(chance)
            grant = await world.grant(job, "acme", **wanted, **(limits(chance) if wanted["modes"] == ["use"] else {}))
            if chance.random() < 0.2:
                await world.call("POST", f"/v1/grants/{grant}/revoke", json={})
        for _ in range(10):
            path, method = chance.choice(PATHS * 3 + UNREADABLE), chance.choice(METHODS)
            how: dict[str, Any] = {
                "implicit": chance.random() < 0.5,
                "label": chance.choice(("default", "default", "other")),
                "purpose": chance.choice(("", "nightly")),
            }
            told = await explained(world, job, path, method, **how)
            got = await real(world, job, path, method, **how)
            assert told["reason"] == got, (number, method, path, how, told)
            assert told["allowed"] == (not got)
            seen.add(got)
    assert {"", "no_grant", "rule_refused"} <= seen


async def test_what_is_used_up_and_what_a_dry_run_takes_is_nothing(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    grant = await world.grant(job, "acme", rate={"uses": 1, "seconds": 3_600}, max_uses=2)
    lease = await job.lease("acme")
    for _ in range(3):
        assert (await explained(world, job, "/facilities"))["allowed"]
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    told = await explained(world, job, "/facilities")
    assert (told["reason"], told["grant"]) == ("grant_rate_limited", grant)
    assert (await world.proxied(lease, "/facilities")).json()["code"] == "grant_rate_limited"
    world.clock.forward(hours=2)
    lease = await job.lease("acme")
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    world.clock.forward(hours=2)
    told = await explained(world, job, "/facilities")
    assert told["reason"] == "uses_exhausted"
    assert grant in told["fix"]


async def test_the_deciding_rule_is_named_or_the_first_thing_that_refuses_with_its_mend(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    told = await explained(world, job, "/facilities")
    assert (told["reason"], told["cause"], told["grant"]) == ("no_grant", "no_grant", None)
    assert "broker grant add" in told["fix"]
    grant = await world.grant(job, "acme", rules=[RULES[0]])
    told = await explained(world, job, "/facilities/7")
    assert (told["allowed"], told["grant"], told["rule"]) == (True, grant, "GET /facilities, /facilities/*")
    told = await explained(world, job, "/facilities/7", "DELETE")
    assert (told["reason"], told["grant"]) == ("rule_refused", grant)
    assert "--allow 'DELETE PATH'" in told["fix"]
    # another grant would let it through, if the job names it
    wide = await world.grant(job, "acme", rules=[RULES[1]], max_ttl=60)
    told = await explained(world, job, "/facilities/7", "DELETE")
    assert told["reason"] == "rule_refused"
    assert wide in told["fix"]
    assert {one["grant"]: one["allowed"] for one in told["grants"]} == {wide: True, grant: False}
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    assert (await explained(world, job, "/facilities/7"))["reason"] == "no_active_key"


async def test_operators_are_told_why_a_grant_is_none_where_jobs_are_not(world: World) -> None:
    await world.key_for("acme")
    revoked, waiting, over, other = [await world.job(name) for name in ("revoked", "waiting", "over", "other")]
    grant = await world.grant(revoked, "acme")
    await world.call("POST", f"/v1/grants/{grant}/revoke", json={})
    await world.grant(over, "acme", expires_at=rfc3339(world.clock() + 60_000))
    labelled = await world.grant(other, "acme", label="second")
    world.clock.forward(seconds=61)
    told = [await explained(world, job, "/facilities") for job in (revoked, waiting, over, other)]
    assert [one["cause"] for one in told] == ["grant_revoked", "no_grant", "grant_expired", "grant_of_another_label"]
    assert {one["reason"] for one in told} == {"no_grant"}
    assert labelled in told[-1]["fix"]
    await world.call("POST", f"/v1/workloads/{other.id}/revoke", json={})
    assert (await explained(world, other, "/facilities"))["reason"] == "workload_revoked"
    await world.call("POST", "/v1/organizations/acme/revoke", json={"reason": "left"})
    assert (await explained(world, revoked, "/facilities"))["reason"] == "no_grant"


async def test_a_dry_run_leaves_nothing_on_the_record(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    before = {event["core"]["kind"] for event in await world.events()} - {"audit.read"}
    await explained(world, job, "/facilities", "DELETE")
    await explained(world, job, "/a//b")
    after = [event["core"]["kind"] for event in await world.events()]
    assert set(after) - {"audit.read"} == before
    assert not {"use.authorized", "use.denied", "lease.issued", "lease.denied"} & set(after)
