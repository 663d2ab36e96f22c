"""An exposed key: cut off in one transaction, replaced, watched until it is dead, and accounted for."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from broker.audit.record import record
from broker.sandbox.state import Faults
from tests.support.waiting import eventually
from tests.support.world import Job, World


@pytest.fixture
async def acme(world: World) -> str:
    """A customer who gave a key over a link; the credential's id."""
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"
    return str((await world.call("GET", f"/v1/intakes/{intake}"))["credential"])


@pytest.fixture
async def sync(world: World, acme: str) -> Job:
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"), max_ttl=86_400)
    return job


async def report(world: World, credential: str, *, status: int = 200, **more: Any) -> Any:
    body = {"found_by": "Sven, security", "where": "public repository x/y, config.env", **more}
    return await world.call("POST", f"/v1/credentials/{credential}/exposure", status=status, json=body)


async def timeline(world: World, exposure: str) -> list[dict[str, Any]]:
    response = await world.http.get(f"/v1/exposures/{exposure}/timeline", headers=world.admin)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


async def test_nothing_uses_it_any_more_and_a_new_one_is_asked_for(world: World, acme: str, sync: Job) -> None:
    used, seen = await sync.lease("acme"), await sync.lease("acme", mode="reveal")
    done = await report(world, acme)
    assert await world.states(acme) == ["revoked"]
    for lease in (used, seen):
        assert (await world.proxied(lease, "/facilities")).json()["code"] in {"key_revoked", "lease_over"}
        shown = await world.call("GET", f"/v1/leases/{lease['lease']['id']}")
        assert shown["state"] == "revoked"
    assert (await sync.ask("acme")).json()["code"] == "no_active_key"

    rotation = (await world.call("GET", "/v1/rotations"))["items"][0]
    assert (rotation["id"], rotation["kind"], rotation["state"]) == (
        done["exposure"]["rotation"],
        "urgent",
        "requested",
    )
    told = [one["kind"] for one in (await world.call("GET", "/v1/notices"))["items"]]
    assert told == ["key_exposed"]

    # the link works at once, and so do the jobs again
    path, _, secret = done["link"].partition("#")
    answer = await world.submit(path.rpartition("/")[2], secret, world.new_key("acme"))
    assert answer.json()["state"] == "accepted"
    assert (await sync.ask("acme")).status_code == 201
    assert (await world.rotation(rotation))["state"] == "completed"


async def test_a_call_under_way_is_ended_before_it_is_answered(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme")
    world.upstream.faults = Faults(latency_ms=60_000)
    waiting = asyncio.create_task(world.proxied(lease, "/facilities"))
    await eventually(lambda: any(request["path"] == "/facilities" for request in world.upstream.requests))
    async with asyncio.timeout(30):
        await report(world, acme)
        assert (await waiting).status_code in {403, 409}


async def test_its_death_is_watched_from_the_first_moment(world: World, acme: str) -> None:
    world.upstream.requests.clear()
    await report(world, acme)
    await world.work()
    assert len(world.upstream.requests) == 1
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(seconds=61)
    (version,) = await world.versions(acme)
    assert version["status"].startswith("revoked (confirmed upstream at ")


async def test_reported_again_it_is_the_same_exposure(world: World, acme: str) -> None:
    first = await report(world, acme)
    again = await report(world, acme, version=1, found_by="somebody else")
    assert again["exposure"] == first["exposure"]
    assert again["link"] is None
    assert len(await world.events(kind="credential.exposed")) == 1


async def test_a_link_comes_at_once_also_while_another_key_waits_for_a_decision(world: World, acme: str) -> None:
    await world.call("POST", f"/v1/credentials/{acme}/versions/1/revoke", json={})
    intake, secret = await world.request_key("acme")
    strangers = world.upstream.add_key(world.upstream.add_organization("stranger", 3))[1]
    assert (await world.submit(intake, secret, strangers)).json()["state"] == "held"
    done = await report(world, acme, version=1)
    assert done["link"] is not None


async def test_an_exposed_old_key_leaves_the_new_one_alone(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme")
    rotation, intake, secret = await world.rotate(acme)
    await world.submit(intake, secret, world.new_key("acme"))
    done = await report(world, acme, version=1)
    assert done["link"] is None, "it has a successor already"
    assert await world.states(acme) == ["revoked", "active"]
    assert (await world.rotation(rotation))["state"] == "completed"
    assert (await sync.ask("acme")).status_code == 201
    refused = await world.proxied(lease, "/facilities")
    assert refused.json()["code"] == "key_revoked", "a lease of the exposed version is over, also one that never saw it"


async def test_an_exposed_new_key_brings_the_old_one_back_and_asks_for_another(
    world: World, acme: str, sync: Job
) -> None:
    rotation, intake, secret = await world.rotate(acme)
    await world.submit(intake, secret, world.new_key("acme"))
    done = await report(world, acme, version=2)
    assert await world.states(acme) == ["active", "revoked"]
    assert (await world.rotation(rotation))["state"] == "rolled_back"
    assert done["exposure"]["rotation"] not in {None, rotation["id"]}
    assert (await sync.ask("acme")).status_code == 201


async def test_a_rotation_that_is_under_way_becomes_urgent(world: World, acme: str) -> None:
    rotation, intake, secret = await world.rotate(acme)
    done = await report(world, acme)
    assert (done["exposure"]["rotation"], done["link"]) == (rotation["id"], None)
    assert (await world.rotation(rotation))["kind"] == "urgent"
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "accepted"


async def test_the_customer_always_gets_a_link_that_works(world: World, acme: str) -> None:
    # given a rotation whose link is over
    rotation, intake, secret = await world.rotate(acme, hours=1)
    world.clock.forward(hours=2)
    done = await report(world, acme)
    assert done["exposure"]["rotation"] == rotation["id"]
    path, _, fresh = done["link"].partition("#")
    assert path.rpartition("/")[2] == intake
    assert (await world.open(intake, secret)).json()["code"] == "link_invalid"
    assert (await world.submit(intake, fresh, world.new_key("acme"))).json()["state"] == "accepted"


async def test_an_exposed_key_that_waits_makes_room_for_another(world: World, acme: str) -> None:
    rotation, intake, secret = await world.rotate(acme)
    stranger = world.upstream.add_organization("empty", facilities=0)
    assert (await world.submit(intake, secret, world.upstream.add_key(stranger)[1])).json()["state"] == "held"
    assert (await report(world, acme, version=2))["link"] is None, "the present key serves"
    assert await world.states(acme) == ["active", "revoked"]
    assert (await world.rotation(rotation))["state"] == "requested"
    # and when the present one is exposed too, the new one is asked for at once
    done = await report(world, acme, version=1)
    assert done["exposure"]["rotation"] == rotation["id"]
    answer = await world.submit(intake, done["link"].partition("#")[2], world.new_key("acme"))
    assert answer.json()["state"] == "accepted"


async def test_with_no_key_left_that_works_a_new_one_is_asked_for(world: World, acme: str, sync: Job) -> None:
    # given a rotation whose new key was revoked upstream, so that the old one serves
    _, intake, secret = await world.rotate(acme)
    new = world.new_key("acme")
    await world.submit(intake, secret, new)
    world.revoke_upstream(new)
    await world.noticed(await sync.lease("acme"), acme, 2)
    done = await report(world, acme, version=1)
    path, _, secret = done["link"].partition("#")
    urgent = await world.rotation({"id": done["exposure"]["rotation"]})
    assert (urgent["kind"], urgent["state"]) == ("urgent", "requested")
    assert (await world.submit(path.rpartition("/")[2], secret, world.new_key("acme"))).json()["state"] == "accepted"
    assert (await world.proxied(await sync.lease("acme"), "/facilities")).status_code == 200


async def test_leases_of_a_version_that_retired_before_end_too(world: World, acme: str, sync: Job) -> None:
    lease = await sync.lease("acme", ttl=86_400)
    rotation, intake, secret = await world.rotate(acme)
    await world.submit(intake, secret, world.new_key("acme"))
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    assert (await world.proxied(lease, "/facilities")).status_code == 200, "with the key after it"
    await report(world, acme, version=1)
    # also where another lease of the job made the broker look again before
    assert (await world.proxied(await sync.lease("acme"), "/facilities")).status_code == 200
    assert (await world.proxied(lease, "/facilities")).json()["code"] == "lease_over"
    assert (await world.call("GET", f"/v1/leases/{lease['lease']['id']}"))["state"] == "revoked"


async def test_the_timeline_tells_who_could_and_who_did(world: World, acme: str, sync: Job) -> None:
    other = await world.job("reporting")
    await world.grant(other, "acme")
    gone = await world.job("gone")
    grant = await world.grant(gone, "acme")
    await world.call("POST", f"/v1/grants/{grant}/revoke", json={})
    world.clock.forward(hours=1)
    since = world.clock()
    lease = await sync.lease("acme", mode="reveal", purpose="nightly")
    for _ in range(3):
        await world.proxied(lease, "/facilities")
    await world.work(hours=30)  # a scheduled check by the broker itself
    from broker.base.clock import rfc3339

    done = await report(world, acme, since=rfc3339(since))
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()

    lines = await timeline(world, done["exposure"]["id"])
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "exposure"
    assert kinds[-1] == "summary"
    assert lines[0]["suspected_since"] == rfc3339(since)
    assert lines[0]["dead_upstream_at"] is not None
    assert sorted(line["name"] for line in lines if line["type"] == "could_use") == ["reporting", "sync"]
    (held,) = [line for line in lines if line["type"] == "lease"]
    assert (held["saw_the_key"], held["purpose"]) == (True, "nightly")
    uses = [line for line in lines if line["type"] == "event" and line["kind"] == "use.authorized"]
    assert len(uses) == 3
    summary = {one["actor"]: one for one in lines[-1]["used_by"]}
    assert summary[sync.id]["uses"] == 3
    assert summary[sync.id]["addresses"] == ["127.0.0.1"]
    assert summary["broker"]["uses"] == 2, "the scheduled check, and the probe after it was cut off"
    assert world.upstream_keys["acme"] not in json.dumps(lines)
    assert "audit.read" in [event["kind"] for event in await world.events()]


async def test_the_timeline_names_who_has_a_copy_and_when_each_right_ended(
    world: World, acme: str, sync: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.incidents.timeline._PAGE", 2)
    # given jobs that saw the key, or used it, under leases that ended long before the suspected time
    await sync.lease("acme", mode="reveal", ttl=60)
    used = await sync.lease("acme", ttl=60)
    others = [await world.job(f"other-{number}") for number in range(4)]
    for job in others:
        await world.grant(job, "acme", modes=("use", "reveal"))
    await others[0].lease("acme", mode="reveal", ttl=60)
    world.clock.forward(hours=30)
    from broker.base.clock import rfc3339

    since = rfc3339(world.clock())
    world.clock.forward(hours=1)
    await world.call("POST", f"/v1/workloads/{others[1].id}/revoke", json={})
    ended = (await world.call("GET", f"/v1/workloads/{others[1].id}"))["revoked_at"]
    world.clock.forward(hours=1)
    done = await report(world, acme, since=since)

    lines = await timeline(world, done["exposure"]["id"])
    held = [line for line in lines if line["type"] == "lease"]
    assert [(line["workload"], line["saw_the_key"]) for line in held] == [(sync.id, True), (others[0].id, True)]
    assert used["lease"]["id"] not in [line["lease"] for line in held], "a use that is over left no copy"
    could = {line["name"]: line["until"] for line in lines if line["type"] == "could_use"}
    assert list(could) == ["sync", "other-0", "other-1", "other-2", "other-3"]
    assert could["other-1"] == ended
    assert could["sync"] == lines[0]["cut_off_at"]
    page = (Path(__file__).parents[2] / "docs" / "formats" / "timeline.md").read_text()
    for line in lines:
        assert re.search(rf"^{line.pop('type')} ", page, re.MULTILINE)
        assert [name for name in line if f'"{name}"' not in page] == []


async def test_a_right_ends_with_the_customer_too(world: World, acme: str, sync: Job) -> None:
    await world.call("POST", "/v1/organizations/acme/revoke", json={})
    ended = (await world.call("GET", "/v1/organizations/acme"))["revoked_at"]
    world.clock.forward(hours=1)
    done = await report(world, acme)
    lines = await timeline(world, done["exposure"]["id"])
    assert [line["until"] for line in lines if line["type"] == "could_use"] == [ended]


async def test_what_is_wrong_with_a_report_is_said(world: World, acme: str) -> None:
    await report(world, acme, where=f"https://x.example/?key={world.upstream_keys['acme']}&a=1", status=422)
    refused = await report(world, acme, where=f"pasted: {world.upstream_keys['acme']}", status=422)
    assert "without the key itself" in refused["detail"]
    await report(world, acme, note="another provider's: sk_live_" + "a1" * 12, status=422)
    assert world.upstream_keys["acme"] not in json.dumps(refused)
    assert (await report(world, acme, since="2999-01-01T00:00:00Z", status=422))["detail"].startswith("since:")
    await report(world, acme, version=7, status=404)
    assert await world.states(acme) == ["active"]


async def test_a_failure_half_way_changes_nothing(
    world: World, acme: str, sync: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_arguments: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("broker.incidents.exposure.record", failing)
        await report(world, acme, status=500)
    assert record is not failing
    assert await world.states(acme) == ["active"]
    assert (await world.call("GET", "/v1/exposures"))["items"] == []
    assert (await sync.ask("acme")).status_code == 201
    await report(world, acme)
