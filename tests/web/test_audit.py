"""The record over HTTP: each filter finds its events, and reading them is on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.audit.tables import ArchiveRow
from broker.base.db import EVERY_TENANT
from tests.support.world import World


@pytest.fixture
async def used(world: World) -> dict[str, str]:
    """A job that called the upstream twice, of which one call was refused there; ids by what they are of."""
    credential = await world.key_for("acme")
    job = await world.job()
    grant = await world.grant(job, "acme")
    lease = await job.lease("acme")
    answer = await world.proxied(lease, "/facilities")
    missing = await world.proxied(lease, "/facilities/none")
    assert (answer.status_code, missing.status_code) == (200, 404)
    return {
        "credential": credential,
        "workload": job.id,
        "grant": grant,
        "lease": lease["lease"]["id"],
        "request": answer.headers["X-Request-Id"],
        "refused": missing.headers["X-Request-Id"],
    }


async def test_events_are_found_by_job_operator_outcome_and_request(world: World, used: dict[str, str]) -> None:
    uses = await world.events(request=used["request"])
    assert [event["kind"] for event in uses] == ["use.authorized", "use.completed"]
    assert {event["core"]["request"] for event in uses} == {used["request"]}
    (failed,) = await world.events(outcome="failed", lease=used["lease"])
    assert (failed["core"]["request"], failed["core"]["outcome"]["status"]) == (used["refused"], 404)
    assert await world.events(outcome="4xx", kind="use.*") == [failed]
    assert len(await world.events(outcome="succeeded", kind="use.*")) == 1
    of_job = await world.events(workload="sync")
    every = await world.events()
    assert of_job == [one for one in every if one["core"].get("workload") == used["workload"]][: len(of_job)]
    assert {"workload.created", "grant.created", "lease.issued", "use.authorized"} <= {one["kind"] for one in of_job}
    by_ada = await world.events(operator="ada", kind="grant.*")
    assert [event["core"]["grant"] for event in by_ada] == [used["grant"]]
    assert await world.events(operator="ada", kind="use.*") == []


async def test_an_account_that_was_made_again_under_a_name_is_found_with_the_one_before(world: World) -> None:
    ids = []
    for _ in range(2):
        bo = await world.operator("bo", "security")
        me = await world.call("GET", "/v1/operators/me", as_=bo)
        ids.append(me["id"])
        await world.call("GET", "/v1/audit/events", as_=bo)
        await world.call("POST", f"/v1/operators/{me['id']}/revoke", json={})
    found = await world.events(operator="bo", kind="audit.read")
    assert [event["core"]["actor"]["id"] for event in found] == ids
    assert [event["core"]["actor"]["id"] for event in await world.events(operator=ids[1], kind="audit.read")] == ids[1:]


async def test_who_nobody_knows_is_told(world: World) -> None:
    for name, command in (("operator", "broker operator list"), ("workload", "broker workload list")):
        refused = await world.call("GET", "/v1/audit/events", params={name: "nobody"}, status=404)
        assert command in refused["detail"]


async def test_what_is_asked_every_few_seconds_is_on_the_record_once(world: World) -> None:
    """It is the same person's and about the same, else it is another reading."""
    first = await world.call("GET", "/v1/audit/events", params={"kind": "use.*"})
    going_on = {"kind": "use.*", "following": first["read"]["id"], "after": first["read"]["index"]}
    for _ in range(3):
        again = await world.call("GET", "/v1/audit/events", params=going_on)
        assert again["read"] == first["read"]
    assert len(await world.events(kind="audit.read")) == 2, "that search, and this one"
    # when
    bo = await world.operator("bo", "security")
    others = [
        await world.call("GET", "/v1/audit/events", params={**going_on, "kind": "lease.*"}),
        await world.call("GET", "/v1/audit/events", params=going_on, as_=bo),
        await world.call("GET", "/v1/audit/events", params={**going_on, "following": "evt_" + "0" * 32}),
    ]
    world.clock.forward(seconds=601)
    others.append(await world.call("GET", "/v1/audit/events", params=going_on))
    # then
    assert len({first["read"]["id"], *(one["read"]["id"] for one in others)}) == 5


async def test_events_behind_a_number_are_asked_for_oldest_first(world: World) -> None:
    for slug in ("acme", "globex", "initech"):
        await world.organization(slug)
    after = (await world.events())[0]["index"]
    assert [one["index"] for one in await world.events(after=after)][:3] == [after + 1, after + 2, after + 3]
    refused = await world.call("GET", "/v1/audit/events", params={"after": 3, "order": "newest"}, status=422)
    assert refused["detail"].startswith("after: ")


# Export


async def lines(world: World, form: str = "ocsf", **wanted: Any) -> list[str]:
    """A batch, line by line."""
    answer = await world.http.get("/v1/audit/export", params={"format": form, **wanted}, headers=world.admin)
    assert answer.status_code == 200, answer.text
    return answer.text.splitlines()


def numbers(batch: list[str]) -> list[int]:
    """The indices of a batch's events in OCSF."""
    return [made["metadata"]["sequence"] for made in map(json.loads, batch) if "sequence" in made["metadata"]]


async def test_a_batch_has_every_event_by_index_and_ends_with_the_newest_checkpoint(
    world: World, used: dict[str, str]
) -> None:
    await world.work()
    note = (await world.http.get("/v1/audit/log/checkpoint")).text
    for form in ("ocsf", "ecs", "cef"):
        *events, last = await lines(world, form)
        recorded = await world.events(kind="audit.exported")
        assert recorded[-1]["core"]["reason"] == f"format={form}"
        assert len(events) == recorded[-1]["index"] + 1, "up to the event of the export itself, which is in it"
        assert note.splitlines()[0] in last
        if form != "cef":
            assert note in (json.loads(last).get("raw_data") or json.loads(last)["event"]["original"])
    batch = await lines(world)
    assert numbers(batch) == [*range(len(batch) - 1)]


async def test_batches_go_on_by_the_number_of_the_last_event(world: World, used: dict[str, str]) -> None:
    first = numbers(await lines(world, limit=5))
    then = numbers(await lines(world, limit=5, after=first[-1]))
    assert first + then == [*range(10)]
    of_acme = numbers(await lines(world, organization="acme", kind="use.*"))
    assert len(of_acme) == 4
    assert numbers(await lines(world, organization="acme", kind="use.*", after=of_acme[1])) == of_acme[2:]
    assert numbers(await lines(world, after=10**9)) == []


async def test_a_batch_of_many_pages_is_whole(
    world: World, used: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.siem.export.PAGE", 3)
    every = numbers(await lines(world))
    assert every == [*range(len(every))]
    assert numbers(await lines(world, limit=7)) == every[:7]


async def test_who_sees_one_customer_exports_no_others_events(world: World, used: dict[str, str]) -> None:
    await world.organization("globex")
    limited = await world.operator("bo", "security", organizations=["globex"])
    answer = await world.http.get("/v1/audit/export", params={"format": "ocsf"}, headers=limited)
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert {made["metadata"].get("tenant_uid") for made in events if "sequence" in made["metadata"]} == {
        (await world.call("GET", "/v1/organizations/globex"))["id"]
    }
    operator = await world.operator("cy", "operator")
    await world.call("GET", "/v1/audit/export", params={"format": "ocsf"}, as_=operator, status=403)


async def test_events_that_are_in_archives_are_no_silent_gap(world: World) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        times = {"earliest": 0, "latest": 0, "archived_at": 0}
        session.add(ArchiveRow(month=202601, first=0, count=2, root=b"", **times))
    for after, status in ((0, 409), (1, 200)):
        answer = await world.http.get(
            "/v1/audit/export", params={"format": "ocsf", "after": after}, headers=world.admin
        )
        assert answer.status_code == status
        if status == 409:
            assert answer.json()["code"] == "archived"
            assert "after=1," in answer.json()["detail"]
