"""Short-lived access and cutting it off, over HTTP on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import select

from broker.audit.heads import Heads
from broker.audit.log import AuditLog
from broker.audit.unavailable import AuditUnavailable
from broker.base.clock import rfc3339
from broker.base.db import EVERY_TENANT, Database
from broker.base.recent import Recent
from broker.formats.envelope import Binding
from broker.grants.policy import AccessTarget
from broker.leases.lookup import Found, look_up
from broker.leases.snapshot import SnapshotCache
from broker.leases.tables import LeaseRow
from tests.support.waiting import eventually
from tests.support.world import Job, World, running_world, settings_for, upstream


async def ready(world: World, *modes: str, **more: Any) -> tuple[Job, str, str]:
    """A job with a right to acme's key; the credential and the grant."""
    credential = await world.key_for("acme")
    job = await world.job()
    return job, credential, await world.grant(job, "acme", modes=modes or ("use",), **more)


async def test_a_lease_lasts_five_minutes_unless_the_grant_says_less(world: World) -> None:
    job, credential, grant = await ready(world, max_ttl=120)
    lease = await job.lease("acme")
    assert lease["lease"]["credential"] == credential
    assert lease["lease"]["grant"] == grant
    assert lease["key"] is None
    assert lease["proxy_url"].endswith(f"/proxy/{lease['lease']['organization']}/raptor-comply")
    world.clock.forward(seconds=119)
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    world.clock.forward(seconds=2)
    refused = await world.proxied(lease, "/facilities")
    assert (refused.status_code, refused.json()["code"]) == (409, "lease_over")


async def test_reveal_shows_the_key_and_is_never_cached(world: World) -> None:
    job, _, _ = await ready(world, "use", "reveal")
    answer = await job.ask("acme", mode="reveal", purpose="migration")
    assert answer.json()["key"] == world.upstream_keys["acme"]
    assert answer.headers["cache-control"] == "no-store"
    issued = (await world.events(kind="lease.issued"))[-1]
    assert (issued["core"]["mode"], issued["personal"]["note"]) == ("reveal", "migration")


async def test_nothing_is_revealed_when_the_record_cannot_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _, _ = await ready(world, "use", "reveal")
    await job.headers()
    opened: list[object] = []

    async def down(*_: object, **__: object) -> None:
        raise AuditUnavailable("The record is away.", retry_after=1)

    async def open_(*arguments: object) -> None:
        opened.append(arguments)

    monkeypatch.setattr(type(world.services.parts.audit), "append", down)
    monkeypatch.setattr(type(world.services.parts.keystore), "open", open_)
    refused = await job.ask("acme", mode="reveal")
    assert (refused.status_code, refused.json()["code"]) == (503, "audit_unavailable")
    assert refused.headers["retry-after"] == "1"
    assert opened == [], "the key was not even opened"


async def test_a_key_is_not_revealed_once_its_lease_has_run_out_however_long_it_took_to_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _, _ = await ready(world, "use", "reveal")
    await job.headers()
    original = type(world.services.parts.keystore).open

    async def slow(self: Any, sealed: bytes, binding: Binding) -> Any:
        if binding.purpose == "credential":
            world.clock.forward(seconds=3600)
        return await original(self, sealed, binding)

    monkeypatch.setattr(type(world.services.parts.keystore), "open", slow)
    answer = await job.ask("acme", mode="reveal")
    assert answer.status_code == 409
    assert world.upstream_keys["acme"] not in answer.text


async def test_an_idempotency_key_is_its_workloads_own(world: World) -> None:
    one, _, _ = await ready(world, "use", "reveal")
    other = await world.job("other")
    assert (await one.ask("acme", mode="reveal", headers={"Idempotency-Key": "once"})).status_code == 201
    answer = await other.ask("acme", mode="reveal", headers={"Idempotency-Key": "once"})  # which has no grant
    assert (answer.status_code, answer.json()["code"]) == (403, "no_grant")
    assert world.upstream_keys["acme"] not in answer.text


async def test_an_idempotency_key_is_of_one_organization(world: World) -> None:
    job, _, _ = await ready(world)
    await world.key_for("globex")
    await world.grant(job, "globex")
    assert (await job.ask("acme", headers={"Idempotency-Key": "once"})).status_code == 201
    assert (await job.ask("globex", headers={"Idempotency-Key": "once"})).status_code == 422


async def test_a_lease_and_its_renewals_end_with_its_grant(world: World) -> None:
    end = (world.clock() // 1000 + 100) * 1000
    job, _, _ = await ready(world, max_ttl=3600, expires_at=rfc3339(end))
    lease = await job.lease("acme", ttl=300)
    assert lease["lease"]["expires_at"] <= rfc3339(end)
    headers = await job.headers()
    renewed = await world.call("POST", f"/v1/leases/{lease['lease']['id']}/renew", as_=headers, json={"ttl": 3000})
    assert renewed["expires_at"] <= rfc3339(end)
    world.clock.forward(seconds=101)
    assert (await world.proxied(lease, "/facilities")).status_code in {403, 409}


async def test_the_event_is_durable_before_the_key_is_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _, _ = await ready(world, "use", "reveal")
    await job.headers()
    seen: list[list[str]] = []
    original = type(world.services.parts.keystore).open

    async def watching(self: Any, *arguments: Any) -> Any:
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            seen.append(list(await session.scalars(select(LeaseRow.mode))))
        return await original(self, *arguments)

    monkeypatch.setattr(type(world.services.parts.keystore), "open", watching)
    await job.lease("acme", mode="reveal")
    assert seen == [["reveal"]]


async def test_denials_say_what_is_needed_and_are_recorded(world: World) -> None:
    job, _, _ = await ready(world, purpose_required=True)
    for more, code in (({}, "purpose_required"), ({"mode": "reveal", "purpose": "x"}, "mode_not_granted")):
        refused = await job.ask("acme", **more)
        assert (refused.status_code, refused.json()["code"]) == (403, code)
        assert refused.json()["detail"]
    assert [event["core"]["reason"] for event in await world.events(kind="lease.denied")] == [
        "purpose_required",
        "mode_not_granted",
    ]


async def test_renewal_goes_as_far_as_the_grant_allows(world: World) -> None:
    job, _, _ = await ready(world, max_ttl=400)
    lease = (await job.lease("acme", ttl=100))["lease"]
    headers = await job.headers()

    async def renew(ttl: int | None = None, status: int = 200) -> Any:
        return await world.call(
            "POST", f"/v1/leases/{lease['id']}/renew", as_=headers, status=status, json={"ttl": ttl}
        )

    world.clock.forward(seconds=90)
    assert (await renew(200))["expires_at"] > lease["expires_at"]
    assert (await renew(9999))["expires_at"] == lease["renewable_until"]
    world.clock.forward(seconds=311)
    assert (await renew(10, status=409))["code"] == "lease_over"


async def test_a_job_sees_and_ends_its_own_leases_only(world: World) -> None:
    job, _, _ = await ready(world)
    other = await world.job("other")
    lease = await job.lease("acme")
    path = f"/v1/leases/{lease['lease']['id']}"
    own, foreign = await job.headers(), await other.headers()
    assert (await world.call("GET", path, as_=own))["state"] == "active"
    assert len((await world.call("GET", "/v1/leases", as_=own))["items"]) == 1
    assert (await world.call("GET", "/v1/leases", as_=foreign))["items"] == []
    for action in ("renew", "end"):
        await world.call("POST", f"{path}/{action}", as_=foreign, status=404, json={})
    assert (await world.call("POST", f"{path}/end", as_=own))["state"] == "ended"
    assert (await world.call("POST", f"{path}/end", as_=own))["state"] == "ended", "ending again changes nothing"
    assert (await world.proxied(lease, "/facilities")).json()["code"] == "lease_over"
    assert len(await world.events(kind="lease.ended")) == 1


async def test_the_same_idempotency_key_gives_the_same_lease(world: World) -> None:
    job, _, _ = await ready(world, "use", "reveal")
    headers = {"Idempotency-Key": "run-7"}
    first = await job.lease("acme", mode="reveal", headers=headers)
    again = await job.lease("acme", mode="reveal", headers=headers)
    assert (again["lease"]["id"], again["token"], again["key"]) == (first["lease"]["id"], first["token"], first["key"])
    assert len(await world.events(kind="lease.issued")) == 1
    assert len(await world.events(kind="lease.replayed")) == 1, "the key was shown again, so that is on the record"
    # another request under the same key is a mistake
    other = await job.ask("acme", mode="use", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "invalid")
    # at once, too
    at_once = await asyncio.gather(*(job.lease("acme", headers={"Idempotency-Key": "run-8"}) for _ in range(5)))
    assert len({lease["lease"]["id"] for lease in at_once}) == 1


async def test_a_key_that_the_release_before_was_given_gives_the_same_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, ids by idempotency key were made with the key of tokens."""
    job, _, _ = await ready(world)
    headers = {"Idempotency-Key": "run-7"}
    with monkeypatch.context() as before:
        before.setattr(world.services.leasing, "_id_key", world.services.parts.keys.lease_token)
        first = await job.lease("acme", headers=headers)
    again = await job.lease("acme", headers=headers)
    assert (again["lease"]["id"], again["token"]) == (first["lease"]["id"], first["token"])
    assert len(await world.events(kind="lease.issued")) == 1


Cut = Callable[[World, Job, dict[str, Any]], Awaitable[Any]]


def revoking(path: str) -> Cut:
    async def cut(world: World, _job: Job, lease: dict[str, Any]) -> Any:
        return await world.call("POST", path.format(**lease["lease"]), json={"reason": "test"})

    return cut


CUTS: dict[str, tuple[Cut, str, str]] = {
    "lease": (revoking("/v1/leases/{id}/revoke"), "lease_over", "lease.revoked"),
    "grant": (revoking("/v1/grants/{grant}/revoke"), "grant_revoked", "grant.revoked"),
    "workload": (revoking("/v1/workloads/{workload}/revoke"), "workload_revoked", "workload.revoked"),
    "version": (
        revoking("/v1/credentials/{credential}/versions/1/revoke"),
        "key_revoked",
        "credential.version.revoked",
    ),
    "credential": (revoking("/v1/credentials/{credential}/revoke"), "key_revoked", "credential.revoked"),
    "organization": (
        revoking("/v1/organizations/{organization}/revoke"),
        "organization_revoked",
        "organization.revoked",
    ),
}


@pytest.mark.parametrize("what", sorted(CUTS))
async def test_a_cut_off_is_in_force_when_answered_idempotent_and_recorded(world: World, what: str) -> None:
    cut, code, kind = CUTS[what]
    job, _, _ = await ready(world)
    lease = await job.lease("acme")
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    reached = len(world.upstream.requests)
    # when it is cut off, twice
    first, second = await cut(world, job, lease), await cut(world, job, lease)
    assert first == second
    # then nothing under it is used, renewed or issued
    refused = await world.proxied(lease, "/facilities")
    assert (refused.status_code in {403, 409}, refused.json()["code"]) == (True, code)
    assert len(world.upstream.requests) == reached
    headers = await job.headers()
    path = f"/v1/leases/{lease['lease']['id']}/renew"
    assert (await world.http.post(path, headers=headers, json={})).status_code in {403, 409}
    if what != "lease":
        assert (await job.ask("acme")).status_code == 403
    # and it is on the record once
    assert len(await world.events(kind=kind)) == 1


def remember(memory: Recent[Any, Any], stale: list[tuple[Any, Any]]) -> None:
    for key, value in stale:
        memory[key] = value


@pytest.mark.parametrize("what", sorted(CUTS))
async def test_a_stale_memory_lets_nothing_through(world: World, what: str) -> None:
    """Another replica: its memory is from before the cut-off, and only the guards stand between."""
    cut, _, _ = CUTS[what]
    job, _, _ = await ready(world)
    lease = await job.lease("acme")
    await world.proxied(lease, "/facilities")
    stale_snapshots = world.services.snapshots.kept.entries()
    stale_leases = world.services.leasing.remembered.entries()
    assert stale_snapshots
    assert stale_leases
    await cut(world, job, lease)
    remember(world.services.snapshots.kept, stale_snapshots)
    remember(world.services.leasing.remembered, stale_leases)
    reached = len(world.upstream.requests)
    assert (await world.proxied(lease, "/facilities")).status_code in {403, 409}
    remember(world.services.snapshots.kept, stale_snapshots)
    if what != "lease":
        assert (await job.ask("acme")).status_code == 403
    assert len(world.upstream.requests) == reached


@pytest.mark.parametrize("what", sorted(CUTS))
async def test_a_key_is_not_revealed_once_a_cut_off_was_answered_however_long_it_took_to_open(
    world: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, _, _ = CUTS[what]
    job, _, _ = await ready(world, "use", "reveal")
    await job.headers()
    original = type(world.services.parts.keystore).open

    async def slow(self: Any, sealed: bytes, binding: Binding) -> Any:
        if binding.purpose == "credential":
            lease = (await world.call("GET", "/v1/leases"))["items"][-1]
            await cut(world, job, {"lease": lease})
        return await original(self, sealed, binding)

    monkeypatch.setattr(type(world.services.parts.keystore), "open", slow)
    answer = await job.ask("acme", mode="reveal")
    assert answer.status_code in {403, 409}
    assert world.upstream_keys["acme"] not in answer.text


async def test_uses_and_a_revocation_at_once_leave_no_use_behind_it(world: World) -> None:
    """Concurrent callers: in the record, no authorized use stands behind the revocation."""
    job, credential, _ = await ready(world)
    lease = await job.lease("acme")

    async def use() -> None:
        for _ in range(10):
            await world.proxied(lease, "/facilities")

    async def revoke() -> None:
        await eventually(lambda: len(world.upstream.requests) >= 10)
        await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})

    await asyncio.gather(*(use() for _ in range(8)), revoke())
    kinds = [event["kind"] for event in await world.events(limit=500)]
    revoked = kinds.index("credential.revoked")
    assert "use.authorized" in kinds[:revoked]
    assert "use.authorized" not in kinds[revoked:]
    assert kinds.count("use.authorized") == len(world.upstream.requests) - 1  # one was the verification


async def test_a_lease_of_a_revoked_credential_takes_no_key_of_the_next_one_under_its_label(world: World) -> None:
    job, credential, _ = await ready(world)
    lease = await job.lease("acme")
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    wanted = {"organization": "acme", "provider": "raptor-comply", "key": world.new_key("acme")}
    made = await world.call("POST", "/v1/credentials", status=201, json=wanted)
    if made["verdict"] != "active":
        await world.call("POST", f"/v1/credentials/{made['credential']}/versions/1/activate", json={})
    assert (await job.ask("acme")).status_code == 201
    refused = await world.proxied(lease, "/facilities")
    assert (refused.status_code, refused.json()["code"]) == (403, "key_revoked")
    assert "ask for a new lease, which has the key that is in use now" in refused.json()["detail"]


async def test_a_job_is_sent_to_no_new_lease_where_there_is_no_key_for_one(world: World) -> None:
    job, credential, _ = await ready(world)
    lease = await job.lease("acme")
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    refused = (await world.proxied(lease, "/facilities")).json()
    assert refused["code"] == "key_revoked"
    assert "a new lease would be refused: an operator can request a key" in refused["detail"]
    assert (await job.ask("acme")).json()["code"] == "no_active_key"


async def test_a_grant_made_later_helps_at_once(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    assert (await job.ask("acme")).json()["code"] == "no_grant"
    await world.grant(job, "acme")
    assert (await job.ask("acme")).status_code == 201


async def test_calls_that_come_at_once_share_one_look_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _, _ = await ready(world)
    await job.headers()
    loads = asked = 0
    everybody = 20
    get = SnapshotCache.get

    async def asking(self: SnapshotCache, *arguments: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        return await get(self, *arguments, **more)

    async def counting(db: Database, targets: Sequence[AccessTarget]) -> list[Found]:
        nonlocal loads
        loads += 1
        await eventually(lambda: asked >= everybody)  # who asks while it runs, asks for the same
        return await look_up(db, targets)

    monkeypatch.setattr(SnapshotCache, "get", asking)
    monkeypatch.setattr("broker.leases.snapshot.look_up", counting)
    leases = await asyncio.gather(*(job.lease("acme") for _ in range(20)))
    assert loads == 1
    # A caller who knows that something moved is served by a look-up that begins afterwards, shared as well.
    target = AccessTarget(job.id, leases[0]["lease"]["organization"], "raptor-comply", "default")
    snapshots = world.services.snapshots
    asked, everybody = 0, 6
    first = asyncio.create_task(snapshots.get(target))
    await eventually(lambda: loads == 2)
    fresh = await asyncio.gather(*(snapshots.get(target, fresh=True) for _ in range(5)))
    assert loads == 3
    assert {id(snapshot) for snapshot in fresh} == {id(fresh[0])}
    assert id(fresh[0]) != id(await first)


async def test_a_caller_who_leaves_does_not_take_the_look_up_along(world: World) -> None:
    job, _, _ = await ready(world)
    lease = await job.lease("acme")
    target = AccessTarget(job.id, lease["lease"]["organization"], "raptor-comply", "default")
    snapshots = world.services.snapshots
    leaving, staying = (asyncio.create_task(snapshots.get(target)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).slug == "acme"


async def test_nothing_is_used_once_the_database_was_put_back_under_the_broker(tmp_path: Path, sqlite_url: str) -> None:
    live, backup = sqlite3.connect(sqlite_url.partition("///")[2]), sqlite3.connect(tmp_path / "backup.db")
    async with upstream() as (state, url), running_world(settings_for(tmp_path, sqlite_url, url), state, url) as world:
        job, _, _ = await ready(world)
        lease = await job.lease("acme")
        with closing(live), closing(backup):
            live.backup(backup)
            assert (await world.proxied(lease, "/facilities")).status_code == 200
            backup.backup(live)
        refused = await world.proxied(lease, "/facilities")
        assert (refused.status_code, refused.json()["code"]) == (503, "database_behind")


async def test_a_revocation_holds_at_once_also_where_the_database_was_put_back_meanwhile(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two histories that count their epochs would come to the same number; nothing else is to notice it here."""
    monkeypatch.setattr(AuditLog, "floor", property(lambda _: 0, lambda *_: None), raising=False)
    monkeypatch.setattr(Heads, "check", AsyncMock())  # before which nothing is looked at
    live, backup = sqlite3.connect(sqlite_url.partition("///")[2]), sqlite3.connect(tmp_path / "backup.db")
    async with upstream() as (state, url), running_world(settings_for(tmp_path, sqlite_url, url), state, url) as world:
        job, credential, _ = await ready(world)
        lease = await job.lease("acme")
        policy, twice = f"/v1/credentials/{credential}/policy", ({"rotation_days": 30}, {"rotation_days": 60})
        with closing(live), closing(backup):
            live.backup(backup)
            # given a use, decided on what two changes after the backup left
            for change in twice:
                await world.call("POST", policy, json=change)
            assert (await world.proxied(lease, "/facilities")).status_code == 200
            # when the backup is put back under the running broker, and the second change since is a revocation
            backup.backup(live)
        await world.call("POST", policy, json=twice[0])
        await world.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "it leaked"})
        # then no use follows the answer
        refused = await world.proxied(lease, "/facilities")
        assert (refused.status_code, refused.json()["code"]) == (403, "key_revoked")
