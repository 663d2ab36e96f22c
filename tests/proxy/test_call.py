"""A proxied call on a real broker and a real upstream."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import broker
from broker.base.db import EVERY_TENANT
from broker.base.outbound import Outbound, Unreachable
from broker.leases.tables import UseRow
from broker.proxy.duties import lost_after_ms
from broker.sandbox.state import Faults
from tests.support.world import World


async def leased(world: World) -> dict[str, Any]:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    return await job.lease("acme")


async def test_a_job_reads_writes_changes_and_deletes_without_seeing_the_key(world: World) -> None:
    lease = await leased(world)
    made = await world.proxied(lease, "/cyber-assets", "POST", json={"name": "RTU 9"})
    assert made.status_code == 201
    path = f"/cyber-assets/{made.json()['id']}"
    assert (await world.proxied(lease, path, "PATCH", json={"description": "new"})).json()["description"] == "new"
    assert (await world.proxied(lease, path, "DELETE")).status_code == 204
    assert (await world.proxied(lease, path)).status_code == 404
    assert (await world.proxied(lease, "/facilities", "POST", json={"name": "x"})).status_code == 403
    seen = world.upstream.requests[-1]
    assert "x-api-key" in seen["headers"]
    assert "authorization" not in seen["headers"], "the lease token stays here"


async def test_a_use_is_recorded_before_and_after(world: World) -> None:
    lease = await leased(world)
    await world.proxied(lease, "/facilities?limit=5&secret=x")
    authorized, completed = (await world.events(kind="use.*"))[:2]
    assert authorized["kind"] == "use.authorized"
    assert authorized["core"]["target"] == {"host": "127.0.0.1", "method": "GET", "query": ["limit", "secret"]}
    assert authorized["personal"]["path"] == "/facilities"
    assert authorized["personal"]["actor_name"] == "sync"
    assert completed["kind"] == "use.completed"
    assert completed["core"]["use"] == authorized["core"]["use"]
    assert completed["core"]["outcome"]["status"] == 200
    assert completed["core"]["outcome"]["bytes_in"] > 0
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(UseRow.id)) is None, "and it is under way no more"


async def test_an_upstream_that_gives_no_answer_is_a_502_and_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await leased(world)
    world.upstream.faults = Faults(outage=True, status=500)
    assert (await world.proxied(lease, "/facilities")).status_code == 500, "its own answers pass"
    monkeypatch.setattr(Outbound, "unlimited", _unreachable)
    refused = await world.proxied(lease, "/facilities")
    assert (refused.status_code, refused.json()["code"]) == (502, "upstream_unreachable")
    assert (await world.events(kind="use.completed"))[-1]["core"]["outcome"]["status"] is None


class _unreachable:  # noqa: N801 - stands in for a method
    def __init__(self, *_: object, **__: object) -> None: ...

    async def __aenter__(self) -> None:
        raise Unreachable("ClientConnectorError")

    async def __aexit__(self, *_: object) -> None: ...


async def left_open(world: World) -> None:
    """As if the process of every use had died before its outcome was written."""
    await world.events(kind="use.completed")  # the record is in order: what comes after the outcome finds it written
    authorized = [event["core"] for event in await world.events(kind="use.authorized")]
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        for core in authorized:
            ids = {f"{name}_id": core[name] for name in ("organization", "lease", "credential", "workload", "grant")}
            at = world.services.parts.clock()
            session.add(UseRow(id=core["use"], version=core["version"], method="GET", authorized_at=at, **ids))


async def test_a_use_whose_process_died_is_closed_as_unknown(world: World) -> None:
    lease = await leased(world)
    await world.proxied(lease, "/facilities")
    await left_open(world)
    await world.broker.worker.once()
    assert await world.events(kind="use.outcome_unknown") == [], "it may still be under way"
    world.clock.forward(seconds=lost_after_ms(world.services.in_flight.limits) / 1000 + 1)
    await world.broker.worker.once()
    await world.broker.worker.once()
    assert len(await world.events(kind="use.outcome_unknown")) == 1


async def test_uses_whose_process_died_are_closed_together(world: World) -> None:
    lease = await leased(world)
    for _ in range(5):
        await world.proxied(lease, "/facilities")
    await left_open(world)
    world.clock.forward(seconds=lost_after_ms(world.services.in_flight.limits) / 1000 + 1)
    audit = world.services.parts.audit
    before = audit.batches
    await world.broker.worker.duties["close_lost_uses"].run()
    assert audit.batches - before <= 2, "and not a commit for each"
    assert len(await world.events(kind="use.outcome_unknown")) == 5


async def test_forged_and_foreign_tokens_say_nothing(world: World) -> None:
    lease = await leased(world)
    token = lease["token"]
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in (forged, "kbl_" + "A" * 54, "x", world.admin["Authorization"].removeprefix("Bearer ")):
        answer = await world.http.get(
            "/proxy/acme/raptor-comply/facilities", headers={"Authorization": f"Bearer {wrong}"}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "unknown_lease")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert (await world.http.get("/proxy/acme/raptor-comply/facilities")).status_code == 401


def test_the_job_is_named_for_the_record_and_the_lease_of_a_call_is_set_in_one_place_each() -> None:
    """Three places each once did, and nobody could say whose they were."""
    rooms = Path(broker.__file__).parent
    named, leased = set(), set()
    for path in [*(rooms / "proxy").glob("*.py"), rooms / "web" / "proxy.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() if any(map(_makes_an_actor, ast.walk(node))):
                    named.add(f"{path.stem}:{node.name}")
                case ast.Attribute(attr="lease" | "_lease", ctx=ast.Store()):
                    leased.add(path.stem)
    assert named == {"use:actor"}
    assert leased == {"in_flight"}


def _makes_an_actor(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="Actor") | ast.Attribute(attr="Actor")):
            return True
    return False
