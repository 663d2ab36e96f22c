"""A grant is narrowed to what it was used for, tried on every use that is on the record."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import update

from broker.audit import subjects
from broker.base.db import EVERY_TENANT
from broker.grants import uses
from broker.grants.tables import GrantRow
from tests.support.integrated import integrate
from tests.support.world import Job, World


async def a_job_with_a_grant(world: World, **terms: Any) -> tuple[Job, str]:
    await world.key_for("acme")
    job = await world.job()
    return job, await world.grant(job, "acme", **terms)


async def proposed(world: World, grant: str, status: int = 200, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await world.call("GET", f"/v1/grants/{grant}/tightened", params=more, status=status)
    return found


async def used(world: World, job: Job, *calls: str) -> None:
    """Calls under a new lease: ``GET /facilities``."""
    lease = await job.lease("acme")
    for call in calls:
        method, _, path = call.partition(" ")
        await world.proxied(lease, path, method)


def said(rules: Iterable[dict[str, list[str]]]) -> set[str]:
    return {f"{','.join(rule['methods'])} {' '.join(rule['paths'])}" for rule in rules}


async def facility(world: World, job: Job) -> list[str]:
    """Ids of acme's facilities, which are there."""
    items = (await world.proxied(await job.lease("acme"), "/facilities")).json()
    return [item["id"] for item in items]


async def test_a_grant_is_narrowed_to_what_succeeded_under_it(world: World) -> None:
    job, grant = await a_job_with_a_grant(world)
    first, second, _ = await facility(world, job)
    # given uses that succeeded, one that failed, and one that was refused
    await used(world, job, f"GET /facilities/{first}", f"GET /facilities/{second}?page=2", "DELETE /facilities/none")
    await used(world, job, "GET /a//b")
    found = await proposed(world, grant)
    assert said(found["rules"]) == {"GET /facilities /facilities/*"}
    assert (found["uses"], found["failed"], found["refused"], found["failed_refused"]) == (3, 1, 0, 1)
    assert found["present"] == []
    assert {"DELETE", "POST"} <= {one["method"] for one in found["lost"]}
    # when it is adopted
    lease = await job.lease("acme")
    adopted = {"days": 90, "rules": found["rules"]}
    after = await world.call("POST", f"/v1/grants/{grant}/tighten", json=adopted)
    assert said(after["rules"]) == said(found["rules"])
    # then it holds for leases that are open, too
    assert (await world.proxied(lease, f"/facilities/{first}")).status_code == 200
    refused = await world.proxied(lease, "/control-centers")
    assert (refused.status_code, refused.json()["code"]) == (403, "rule_refused")
    (event,) = await world.events(kind="grant.tightened")
    assert (event["core"]["grant"], event["core"]["reason"]) == (grant, "days=90,rules=1,before=0")
    assert event["personal"]["note"] == "GET /facilities, /facilities/*"
    # and a repeat changes nothing
    await world.call("POST", f"/v1/grants/{grant}/tighten", json={})
    await world.call("POST", f"/v1/grants/{grant}/tighten", json=adopted)
    assert len(await world.events(kind="grant.tightened")) == 1
    # that the record was read is on it
    read = [one["core"] for one in await world.events(kind="audit.read") if one["core"].get("grant") == grant]
    assert {one["reason"] for one in read} == {"kind=use.,days=90"}


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_was_used_passes_the_narrowed_grant_and_nothing_new_does(world: World, seed: int) -> None:
    chance = random.Random(seed)
    present = [{"methods": ["GET", "POST", "PATCH"], "paths": ["/**"]}, {"methods": ["DELETE"], "paths": ["/a/*"]}]
    job, grant = await a_job_with_a_grant(world, rules=chance.choice([[], present]))
    there = await facility(world, job)
    paths = ["/facilities", "/control-centers", "/cyber-assets", *(f"/facilities/{each}" for each in there), "/a/7"]
    calls = [f"{chance.choice(['GET', 'GET', 'POST', 'DELETE'])} {chance.choice(paths)}" for _ in range(25)]
    await used(world, job, *calls)
    succeeded = await _succeeded(world)
    before = {call: await _allowed(world, job, call) for call in {*calls, *succeeded}}
    await world.call("POST", f"/v1/grants/{grant}/tighten", json={})
    for call, could in before.items():
        can = await _allowed(world, job, call)
        assert can or call not in succeeded, call
        assert could or not can, call
    assert succeeded


async def _succeeded(world: World) -> set[str]:
    """Calls that are on the record as successful."""
    ended = {one["core"]["use"]: one["core"]["outcome"]["status"] for one in await world.events(kind="use.completed")}
    begun = await world.events(kind="use.authorized")
    good = [one for one in begun if ended[one["core"]["use"]] < 400]
    return {f"{one['core']['target']['method']} {one['personal']['path']}" for one in good}


async def _allowed(world: World, job: Job, call: str) -> bool:
    method, _, path = call.partition(" ")
    asked = {"workload": job.id, "organization": "acme", "provider": "raptor-comply", "method": method, "path": path}
    return bool((await world.call("POST", "/v1/grants/explain", json=asked))["allowed"])


async def test_rules_that_are_wider_or_would_have_refused_a_use_are_not_adopted(world: World) -> None:
    job, grant = await a_job_with_a_grant(
        world, rules=[{"methods": ["GET"], "paths": ["/facilities", "/control-centers"]}]
    )
    await used(world, job, "GET /facilities", "GET /control-centers")
    wide = {"rules": [{"methods": ["GET"], "paths": ["/**"]}]}
    refused = await world.call("POST", f"/v1/grants/{grant}/tighten", json=wide, status=422)
    assert refused["detail"].startswith("rules: allow something")
    narrow = {"rules": [{"methods": ["GET"], "paths": ["/control-centers"]}]}
    refused = await world.call("POST", f"/v1/grants/{grant}/tighten", json=narrow, status=409)
    assert (refused["code"], "GET /facilities" in refused["detail"]) == ("uses_refused", True)
    assert await world.events(kind="grant.tightened") == []


async def test_uses_that_no_rule_can_allow_keep_a_grant_from_being_narrowed(world: World) -> None:
    job, grant = await a_job_with_a_grant(world)
    await used(world, job, "GET /facilities", "GET /facilities?_method=GET")
    assert (await proposed(world, grant))["refused"] == 1
    refused = await world.call("POST", f"/v1/grants/{grant}/tighten", json={}, status=409)
    assert (refused["code"], "`_method`" in refused["detail"]) == ("uses_refused", True)


async def test_a_grant_that_was_not_used_is_not_narrowed_but_taken_back(world: World) -> None:
    _, grant = await a_job_with_a_grant(world)
    found = await proposed(world, grant, status=409)
    assert (found["code"], f"broker grant revoke {grant}" in found["detail"]) == ("grant_unused", True)
    await world.call("POST", f"/v1/grants/{grant}/revoke", json={})
    assert (await proposed(world, grant, status=409))["code"] == "conflict"


async def test_old_uses_do_not_count_and_a_grant_that_shows_the_key_has_no_rules(world: World) -> None:
    job, grant = await a_job_with_a_grant(world)
    await used(world, job, "GET /control-centers")
    world.clock.forward(hours=24 * 10)
    await used(world, job, "GET /facilities")
    assert said((await proposed(world, grant, days=5))["rules"]) == {"GET /facilities"}
    assert said((await proposed(world, grant, days=30))["rules"]) == {"GET /control-centers /facilities"}
    seeing = await world.grant(job, "acme", modes=("reveal",))
    assert "use alone" in (await proposed(world, seeing, status=409))["detail"]


async def test_a_use_whose_path_nobody_can_read_any_more_keeps_what_it_could_do(world: World) -> None:
    rules = [{"methods": ["GET", "POST"], "paths": ["/facilities/**"]}, {"methods": ["GET"], "paths": ["/facilities"]}]
    job, grant = await a_job_with_a_grant(world, rules=rules)
    await used(world, job, "GET /facilities")
    db, acme = world.services.parts.db, (await world.call("GET", "/v1/organizations/acme"))["id"]
    async with db.write(EVERY_TENANT) as session:
        await subjects.erase(session, acme, world.clock())
    subjects.of_process(db).forget()
    found = await proposed(world, grant)
    assert (found["unreadable"], found["uses"]) == (1, 1)
    assert said(found["rules"]) == {"GET /facilities /facilities/**"}


async def test_days_of_which_uses_were_pruned_or_are_too_many_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, grant = await a_job_with_a_grant(world)
    await used(world, job, "GET /facilities", "GET /control-centers")
    await integrate(world)
    monkeypatch.setattr(uses, "EVENTS_MOST", 1)
    monkeypatch.setattr(uses, "PAGE", 2)
    assert (await proposed(world, grant, status=409))["code"] == "record_not_whole"


async def test_a_grant_that_was_changed_meanwhile_or_beside_the_broker_is_not_narrowed(world: World) -> None:
    job, grant = await a_job_with_a_grant(world)
    await used(world, job, "GET /facilities")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(GrantRow).where(GrantRow.id == grant).values(max_ttl=86_400))
    refused = await world.call("POST", f"/v1/grants/{grant}/tighten", json={}, status=503)
    assert refused["code"] == "rights_altered"
