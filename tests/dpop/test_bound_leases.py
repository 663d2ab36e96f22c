"""A bound lease's token is of use only to whoever holds its key (RFC 9449)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from broker.audit.tables import QuotaRow
from broker.base.db import EVERY_TENANT
from broker.formats.ids import LeaseId
from broker.leases.tables import LeaseRow
from tests.support.proofs import KeyHolder, key_holder
from tests.support.world import PUBLIC_URL, World, running_world


async def test_a_call_with_a_proof_goes_through(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    assert lease["lease"]["bound"] is True
    assert [event["core"]["reason"] for event in await world.events(kind="lease.issued")] == ["bound"]
    answer = await job.proxied(lease, "/facilities")
    assert answer.status_code == 200, answer.text
    assert answer.headers["dpop-nonce"] == job.nonce


async def test_a_copied_token_is_of_no_use_elsewhere(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    bare = await world.proxied(lease, "/facilities")
    assert (bare.status_code, bare.json()["code"]) == (401, "dpop_proof_needed")
    assert bare.headers["www-authenticate"].startswith('DPoP error="invalid_token"')
    thief = KeyHolder(job.job, nonce=job.nonce)
    forged = await thief.proxied(lease, "/facilities")
    assert (forged.status_code, forged.json()["code"]) == (401, "invalid_dpop_proof")
    assert await world.events(kind="use.authorized") == []
    refused = [event["core"] for event in await world.events(kind="use.denied")]
    assert [event["reason"] for event in refused] == ["dpop_proof_needed", "invalid_dpop_proof"], "it is on the record"
    assert {event["lease"] for event in refused} == {lease["lease"]["id"]}


async def test_a_proof_for_the_access_token_is_none_for_the_lease(world: World) -> None:
    job = await key_holder(world)
    lease, token = await job.lease("acme"), await job.token()
    where = job.path(lease, "/facilities")
    answer = await world.proxied(lease, "/facilities", headers={"DPoP": job.proof("GET", where, token)})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_dpop_proof")


async def test_a_proof_for_one_lease_is_none_for_another(world: World) -> None:
    job = await key_holder(world)
    first, second = await job.lease("acme"), await job.lease("acme")
    where = job.path(first, "/facilities")
    headers = {"DPoP": job.proof("GET", where, first["token"])}
    assert (await world.proxied(second, "/facilities", headers=headers)).status_code == 401
    assert (await world.proxied(first, "/facilities", headers=headers)).status_code == 200


WRONG: dict[str, dict[str, Any]] = {
    "another method": {"htm": "POST"},
    "another path": {"htu": f"{PUBLIC_URL}/proxy/acme/raptor-comply/other"},
    "the upstream's address": {"htu": "https://api.raptor.example/facilities"},
    "no hash of the token": {"ath": None},
    "an old date": {"iat": 1},
    "another type": {"header": {"typ": "JWT"}},
}


@pytest.mark.parametrize("fault", sorted(WRONG))
async def test_a_proof_that_does_not_hold_is_refused(world: World, fault: str) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    where = job.path(lease, "/facilities")
    proof = job.proof("GET", where, lease["token"], **WRONG[fault])
    answer = await world.proxied(lease, "/facilities", headers={"DPoP": proof})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_dpop_proof"), answer.text


async def test_a_stale_nonce_is_told_and_not_recorded(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme", ttl=3600)
    world.clock.forward(seconds=400)
    answer = await job.proxied(lease, "/facilities")
    assert (answer.status_code, answer.json()["code"]) == (401, "use_dpop_nonce")
    assert answer.headers["www-authenticate"].startswith('DPoP error="use_dpop_nonce"')
    assert await world.events(kind="use.denied") == []
    job.nonce = answer.headers["dpop-nonce"]
    assert (await job.proxied(lease, "/facilities")).status_code == 200


async def test_a_proof_is_good_for_one_call_on_all_replicas(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    headers = {"DPoP": job.proof("GET", job.path(lease, "/facilities"), lease["token"])}
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as other:
        calls = [one.proxied(lease, "/facilities", headers=headers) for one in (world, other) * 4]
        answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 401} == {"dpop_proof_used"}
    assert len(await world.events(kind="use.authorized")) == 1


async def test_one_replay_fails_no_other_call(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    where = job.path(lease, "/facilities")
    used = {"DPoP": job.proof("GET", where, lease["token"])}
    assert (await world.proxied(lease, "/facilities", headers=used)).status_code == 200
    replays = [world.proxied(lease, "/facilities", headers=used) for _ in range(5)]
    answers = await asyncio.gather(*replays, *(job.proxied(lease, "/facilities") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [401] * 5 + [200] * 5


async def test_used_proofs_are_forgotten_once_their_date_refuses_them(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    assert (await job.proxied(lease, "/facilities")).status_code == 200
    assert await kept(world) > 0
    await world.work(seconds=600)
    assert await kept(world) > 0, "not before a clock could make one good again"
    await world.work(seconds=900)
    assert await kept(world) == 0


async def kept(world: World) -> int:
    """How many used proofs are remembered."""
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        query = select(func.count()).select_from(QuotaRow).where(QuotaRow.id.startswith("dpop/"))
        return int(await session.scalar(query) or 0)


async def test_a_bound_grant_gives_only_bound_leases(world: World) -> None:
    job = await key_holder(world, bound=True)
    refused = await job.job.ask("acme")
    assert (refused.status_code, refused.json()["code"]) == (403, "bound_token_required")
    assert "send a DPoP proof with the token request" in refused.json()["detail"]
    assert [event["core"]["reason"] for event in await world.events(kind="lease.denied")] == ["bound_token_required"]
    issued = await job.lease("acme", bound=False)
    assert issued["lease"]["bound"] is True, "whether the job asks for it or not"
    assert (await world.proxied(issued, "/facilities")).status_code == 401


async def test_an_answer_with_a_lease_brings_the_next_nonce(world: World) -> None:
    job = await key_holder(world)
    issued = await job.ask_for_lease("acme", bound=True)
    assert issued.headers.get_list("dpop-nonce") == [job.nonce]


async def test_a_bound_lease_needs_a_bound_token(world: World) -> None:
    job = await key_holder(world)
    refused = await job.job.ask("acme", bound=True)
    assert (refused.status_code, refused.json()["code"]) == (403, "bound_token_required")


async def test_a_bound_token_may_have_an_unbound_lease(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme", bound=False)
    assert lease["lease"]["bound"] is False
    assert (await world.proxied(lease, "/facilities")).status_code == 200


async def test_an_unbound_lease_does_not_mind_a_proof(world: World) -> None:
    job = await key_holder(world)
    lease = await job.job.lease("acme")
    answer = await world.proxied(lease, "/facilities", headers={"DPoP": "anything"})
    assert answer.status_code == 200


async def test_a_key_is_shown_under_a_bound_lease_only_with_a_proof(world: World) -> None:
    job = await key_holder(world, modes=("reveal",), bound=True)
    refused = await job.job.ask("acme", mode="reveal")
    assert (refused.status_code, refused.json()["code"]) == (403, "bound_token_required")
    shown = await job.lease("acme", mode="reveal")
    assert shown["key"] == world.upstream_keys["acme"]


async def test_a_repeat_by_another_key_gets_no_lease(world: World) -> None:
    job = await key_holder(world, modes=("use", "reveal"))
    once = {"mode": "reveal", "bound": True, "headers": {"Idempotency-Key": "k1"}}
    first = await job.ask_for_lease("acme", **dict(once))
    assert first.status_code == 201
    again = await job.ask_for_lease("acme", **dict(once))
    assert again.json()["token"] == first.json()["token"]
    other = await KeyHolder(job.job).ask_for_lease("acme", **dict(once))
    assert other.status_code == 422
    assert world.upstream_keys["acme"] not in other.text


async def test_a_repeat_that_asks_for_a_bound_lease_gets_no_other(world: World) -> None:
    job = await key_holder(world)
    headers = {"Idempotency-Key": "k1"}
    assert (await job.ask_for_lease("acme", headers=dict(headers))).json()["lease"]["bound"] is False
    again = await job.ask_for_lease("acme", bound=True, headers=dict(headers))
    assert (again.status_code, again.json()["code"]) == (422, "invalid"), again.text
    assert "was used for another request" in again.json()["detail"]


async def test_only_the_holder_renews_and_anybody_of_the_job_ends(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    path = f"/v1/leases/{lease['lease']['id']}"
    refused = await world.http.post(f"{path}/renew", json={"ttl": 900}, headers=await job.job.headers())
    assert (refused.status_code, refused.json()["code"]) == (403, "bound_to_another_key")
    token = await job.token()
    renewed = await world.http.post(
        f"{path}/renew", json={"ttl": 900}, headers=job.carrying(token, "POST", f"{path}/renew")
    )
    assert renewed.status_code == 200, renewed.text
    assert (await world.http.post(f"{path}/end", headers=await job.job.headers())).status_code == 200
    assert (await job.proxied(lease, "/facilities")).status_code == 409


async def test_a_row_that_was_unbound_beside_the_broker_is_not_taken(world: World) -> None:
    job = await key_holder(world)
    lease = await job.lease("acme")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        row = await session.get(LeaseRow, LeaseId(lease["lease"]["id"]))
        assert row is not None
        await session.execute(LeaseRow.__table__.update().values(jkt=None))  # type: ignore[attr-defined]  # of the mapped class
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as other:
        assert (await other.proxied(lease, "/facilities")).status_code == 401


async def test_a_dry_run_says_that_a_bound_grant_needs_a_key(world: World) -> None:
    job = await key_holder(world, bound=True)
    asked = {"workload": job.job.id, "organization": "acme", "provider": "raptor-comply", "method": "GET", "path": "/x"}
    without = await world.call("POST", "/v1/grants/explain", json=asked)
    assert (without["allowed"], without["reason"]) == (False, "bound_token_required")
    assert (await world.call("POST", "/v1/grants/explain", json={**asked, "bound": True}))["allowed"] is True


async def test_the_grants_view_says_that_it_is_bound(world: World) -> None:
    await key_holder(world, bound=True)
    (grant,) = await world.items("/v1/grants")
    assert grant["bound"] is True
    assert [event["core"]["reason"] for event in await world.events(kind="grant.created")] == ["use,bound"]
