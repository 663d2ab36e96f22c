"""Beside every id of an organization or job stands its name, looked up once a page."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, update

from broker.base.db import EVERY_TENANT
from broker.identity.tables import WorkloadRow
from broker.organizations.tables import OrganizationRow
from tests.support.world import World

_UPSTREAM = {"provider": "raptor-comply"}
# Views whose ``organization`` is what was asked for, or that stand for many.
_WITHOUT = {
    "LeaseView",  # of the hottest answers, which tell the slug beside it
    "OrganizationView",
    "HoldView",  # few, and one may be on everything
    "LiftedView",
    "ReviewView",  # which tells the job's name alone
}


def _members(world: World) -> dict[str, dict[str, Any]]:
    return {
        name: schema.get("properties", {})
        for name, schema in world.app.openapi()["components"]["schemas"].items()
        if name.endswith(("View", "Lease", "Checked"))
    }


async def test_every_view_with_an_id_of_an_organization_or_job_has_its_name(world: World) -> None:
    views = _members(world)
    assert len(views) >= 15
    for name, members in views.items():
        if name not in _WITHOUT:
            assert ("organization" in members) == ("organization_slug" in members), name
            assert ("workload" in members) == ("workload_name" in members), name


async def _everything(world: World) -> dict[str, list[dict[str, Any]]]:
    """What all lists of acme's things show."""
    credential = await world.key_for("acme")
    job = await world.job("nightly-sync")
    await world.grant(job, "acme")
    await job.lease("acme")
    await world.request_key("acme", label="second")
    await world.rotate(credential)
    hook = {"url": "https://hooks.example.com/x", "organization": "acme"}
    await world.call("POST", "/v1/webhooks", status=201, json=hook)
    report = {"found_by": "Sven", "where": "a log"}
    await world.call("POST", f"/v1/credentials/{credential}/exposure", json=report)
    await world.broker.worker.once()
    return {path: await world.items(path) for path in _LISTS}


_LISTS = [
    "/v1/credentials",
    "/v1/intakes",
    "/v1/grants",
    "/v1/leases",
    "/v1/rotations",
    "/v1/exposures",
    "/v1/notices",
    "/v1/webhooks",
    "/v1/notices/deliveries",
]
_ALONE = {"/v1/credentials", "/v1/intakes", "/v1/grants", "/v1/leases", "/v1/rotations", "/v1/exposures"}


async def test_lists_and_single_things_show_the_names_that_people_typed(world: World) -> None:
    for path, items in (await _everything(world)).items():
        assert items, path
        for one in items:
            assert one["organization_slug"] == "acme", path
            assert one.get("workload_name", "nightly-sync") == "nightly-sync"
            if path in _ALONE:
                assert await world.call("GET", f"{path}/{one['id']}") == one
    # what is every organization's has none
    hook = {"url": "https://hooks.example.com/all"}
    made = await world.call("POST", "/v1/webhooks", status=201, json=hook)
    assert (made["webhook"]["organization"], made["webhook"]["organization_slug"]) == (None, "")
    holders = await world.call(
        "GET", f"/v1/credentials/{(await world.items('/v1/credentials'))[0]['id']}/versions/1/holders"
    )
    assert [one["workload_name"] for one in holders["items"]] == ["nightly-sync"]


async def test_an_answer_to_a_change_has_the_names_and_its_repeat_the_same_bytes(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job("nightly-sync")
    granted = {"workload": "nightly-sync", "organizations": ["acme"], "modes": ["use"], **_UPSTREAM}
    asked = {"organization": "acme", "label": "second", "contact": "a@b.example", **_UPSTREAM}
    for path, body in {
        "/v1/grants": granted,
        "/v1/intakes": asked,
        f"/v1/credentials/{credential}/rotate": {"contact": "a@b.example"},
        f"/v1/credentials/{credential}/exposure": {"found_by": "x", "where": "y"},
        f"/v1/credentials/{credential}/revoke": {},
    }.items():
        headers = {**world.admin, "Idempotency-Key": f"once-{path.rsplit('/', 1)[-1]}"}
        first, again = [await world.http.post(path, json=body, headers=headers) for _ in range(2)]
        assert first.status_code in {200, 201}, first.text
        assert first.content == again.content
        assert b'"organization_slug":"acme"' in first.content
        assert (b'"workload_name":"nightly-sync"' in first.content) == (path == "/v1/grants")
    # what is asked most, by jobs, is as it was
    await world.organization("globex")
    body = {"organization": "globex", "key": world.upstream_keys["globex"], **_UPSTREAM}
    await world.call("POST", "/v1/credentials", status=201, json=body)
    await world.grant(job, "globex")
    issued = await job.lease("globex")
    assert issued["organization_slug"] == "globex"
    assert not {"organization_slug", "workload_name"} & set(issued["lease"])


async def test_a_job_sees_the_names_of_organizations_that_it_leased_from(world: World) -> None:
    await world.key_for("acme")
    await world.key_for("globex")
    job = await world.job("nightly-sync")
    await world.grant(job, "acme")
    await job.lease("acme")
    (mine,) = (await world.call("GET", "/v1/leases", as_=await job.headers()))["items"]
    assert (mine["organization_slug"], mine["workload_name"]) == ("acme", "nightly-sync")
    assert await world.call("GET", f"/v1/leases/{mine['id']}", as_=await job.headers()) == mine


async def test_a_name_that_something_else_than_the_broker_wrote_is_left_out(world: World) -> None:
    await world.key_for("acme")
    await world.grant(await world.job("nightly-sync"), "acme")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(OrganizationRow).values(slug="globex"))
        await session.execute(update(WorkloadRow).values(name="other"))
    (grant,) = await world.items("/v1/grants")
    assert (grant["organization_slug"], grant["workload_name"]) == ("", "")


@pytest.mark.parametrize("path", [path for path in _LISTS if path != "/v1/notices/deliveries"])
async def test_names_are_looked_up_once_a_page_and_not_at_all_for_an_empty_one(world: World, path: str) -> None:
    async def statements() -> list[int]:
        ran: list[str] = []
        engine = world.services.parts.db.engine.sync_engine
        event.listen(engine, "before_cursor_execute", note := (lambda *given: ran.append(given[2])))
        await world.call("GET", path, params={"limit": 500})
        event.remove(engine, "before_cursor_execute", note)
        return [sum(f"WHERE {table}.id IN (" in one for one in ran) for table in ("organizations", "workloads")]

    once = [1, int(path in {"/v1/grants", "/v1/leases"})]
    assert await statements() == [0, 0]
    await _everything(world)
    assert await statements() == once
    for slug in ("globex", "initech", "umbrella"):
        credential = await world.key_for(slug)
        job = await world.job(f"{slug}-job")
        await world.grant(job, slug)
        await job.lease(slug)
        await world.request_key(slug, label="second")
        await world.rotate(credential)
        hook = {"url": "https://hooks.example.com/x", "organization": slug}
        await world.call("POST", "/v1/webhooks", status=201, json=hook)
        await world.call("POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "x", "where": "y"})
    assert len(await world.items(path)) >= 4
    assert await statements() == once
