"""What stops, and for whom, is told before something is revoked."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from broker.base.clock import rfc3339
from broker.leases import dependents as rooms
from broker.web.api import dependents as named
from tests.support.world import World

_UPSTREAM = {"provider": "raptor-comply"}
_NOTHING = {
    "credentials": 0,
    "versions": 0,
    "grants": 0,
    "open_leases": 0,
    "workloads": [],
    "workloads_total": 0,
    "days": 7,
}


async def _of(world: World, path: str) -> dict[str, Any]:
    found: dict[str, Any] = await world.call("GET", f"/v1/{path}/dependents")
    return found


@pytest.fixture
async def used(world: World) -> dict[str, str]:
    """acme's two keys, one of them in its grace window; three jobs with rights to them; globex's beside it."""
    first = await world.key_for("acme")
    body = {"organization": "acme", "label": "second", "key": world.new_key("acme"), **_UPSTREAM}
    second = (await world.call("POST", "/v1/credentials", status=201, json=body))["credential"]
    _, intake, secret = await world.rotate(first)
    await world.submit(intake, secret, world.new_key("acme"))
    globex = await world.key_for("globex")
    named = {"first": first, "second": second, "globex": globex}
    wanted: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "nightly-sync": [("acme", {}), ("globex", {})],
        "report": [("acme", {"label": "second"})],
        "idle": [("acme", {"label": "default"}), ("acme", {"expires_at": rfc3339(world.clock() + 60_000)})],
    }
    for name, grants in wanted.items():
        job = await world.job(name)
        for slug, more in grants:
            named[f"{name}-{slug}"] = await world.grant(job, slug, **more)
        if name == "nightly-sync":
            await job.lease("acme", ttl=600)
            await job.lease("acme", ttl=600)
            await job.lease("globex", ttl=600)
        if name == "report":
            await job.lease("acme", label="second", ttl=1)
    world.clock.forward(seconds=120)
    return named


async def test_an_organization_takes_all_that_is_its_own_along(world: World, used: dict[str, str]) -> None:
    expected = {
        "credentials": 2,
        "versions": 3,
        "grants": 3,
        "open_leases": 2,
        "workloads": ["report", "nightly-sync"],
        "workloads_total": 2,
        "days": 7,
    }
    assert await _of(world, "organizations/acme") == expected
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    assert await _of(world, f"organizations/{acme}") == expected
    # what is told stops indeed
    await world.call("POST", "/v1/organizations/acme/revoke", json={})
    assert (await _of(world, "organizations/acme"))["credentials"] == 0
    assert used


async def test_a_credential_takes_its_keys_along_and_not_those_of_other_labels(
    world: World, used: dict[str, str]
) -> None:
    first = await _of(world, f"credentials/{used['first']}")
    assert (first["credentials"], first["versions"], first["grants"], first["open_leases"]) == (1, 2, 2, 2)
    assert first["workloads"] == ["nightly-sync"]
    second = await _of(world, f"credentials/{used['second']}")
    assert (second["versions"], second["grants"], second["open_leases"]) == (1, 2, 0)
    assert second["workloads"] == ["report"]
    await world.call("POST", f"/v1/credentials/{used['second']}/revoke", json={})
    assert (await _of(world, f"credentials/{used['second']}"))["credentials"] == 0


async def test_a_job_and_a_grant_take_rights_along(world: World, used: dict[str, str]) -> None:
    sync = await _of(world, "workloads/nightly-sync")
    assert (sync["credentials"], sync["versions"], sync["grants"], sync["open_leases"]) == (3, 4, 2, 3)
    assert sync["workloads"] == ["nightly-sync"]
    idle = await _of(world, "workloads/idle")
    assert (idle["credentials"], idle["versions"], idle["grants"], idle["workloads"]) == (1, 2, 1, [])
    acme, globex = used["nightly-sync-acme"], used["nightly-sync-globex"]
    given = await _of(world, f"grants/{acme}")
    assert (given["credentials"], given["versions"], given["grants"], given["open_leases"]) == (2, 3, 1, 2)
    assert (await _of(world, f"grants/{globex}"))["open_leases"] == 1
    assert (await _of(world, f"grants/{used['report-acme']}"))["versions"] == 1
    await world.call("POST", f"/v1/grants/{acme}/revoke", json={})
    assert (await _of(world, f"grants/{acme}"))["grants"] == 0
    # and what has nothing says so
    await world.job("new")
    assert await _of(world, "workloads/new") == _NOTHING


async def test_a_job_that_worked_longer_ago_than_a_week_is_not_named(world: World) -> None:
    credential = await world.key_for("acme")
    for name in ("early", "late"):
        job = await world.job(name)
        await world.grant(job, "acme", max_ttl=3600)
        await job.lease("acme", ttl=3600)
        world.clock.forward(hours=0.25)
    world.clock.forward(hours=7 * 24 + 2 / 3)
    assert (await _of(world, f"credentials/{credential}"))["workloads"] == ["late"]
    world.clock.forward(hours=1)
    found = await _of(world, f"credentials/{credential}")
    assert (found["workloads"], found["workloads_total"], found["grants"]) == ([], 0, 2)


async def test_so_many_jobs_are_named_and_all_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named.NAMED == 20
    monkeypatch.setattr(named, "NAMED", 2)
    credential = await world.key_for("acme")
    for number in range(3):
        job = await world.job(f"job-{number}")
        await world.grant(job, "acme")
        await job.lease("acme")
        world.clock.forward(seconds=1)
    found = await _of(world, f"credentials/{credential}")
    assert (found["workloads"], found["workloads_total"]) == (["job-2", "job-1"], 3)


async def _counted(world: World, path: str) -> list[tuple[str, Any]]:
    """The statements, with their values, that count what depends on something."""
    engine = world.services.parts.db.engine.sync_engine
    ran: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", note := (lambda *given: ran.append(given[2:4])))
    await _of(world, path)
    event.remove(engine, "before_cursor_execute", note)
    return [(text, values) for text, values in ran if "count(" in text or "sum(" in text]


# PostgreSQL reads small tables whole, whatever index there is.
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_each_answer_takes_three_statements_and_each_of_them_an_index(world: World, used: dict[str, str]) -> None:
    for path in ("organizations/acme", f"credentials/{used['first']}", "workloads/idle", f"grants/{used['idle-acme']}"):
        counted = await _counted(world, path)
        assert len(counted) == 3
        async with world.services.parts.db.engine.connect() as connection:
            for text, values in counted:
                plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)).all()
                assert not [step for *_, step in plan if step.startswith("SCAN ")], (path, text, plan)


async def test_a_limited_account_counts_what_is_its_customers(world: World, used: dict[str, str]) -> None:
    limited = await world.operator("acme-ann", "security", organizations=["acme"])
    path = f"/v1/credentials/{used['first']}/dependents"
    assert await world.call("GET", path, as_=limited) == await world.call("GET", path)
    await world.call("GET", f"/v1/credentials/{used['globex']}/dependents", as_=limited, status=404)
    # a job that works for others too isn't theirs to revoke, nor to count
    refused = await world.call("GET", "/v1/workloads/nightly-sync/dependents", as_=limited, status=403)
    assert refused["code"] == "job_works_for_others"
    await world.call("POST", f"/v1/grants/{used['nightly-sync-globex']}/revoke", json={})
    mine = await world.call("GET", "/v1/workloads/nightly-sync/dependents", as_=limited)
    assert (mine["credentials"], mine["open_leases"]) == (2, 2)
    assert mine["days"] == rooms.DAYS
