"""A bound access token is of use only with proofs of its key, wherever it comes (RFC 9449 §7)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.issuers.unverified import peek
from tests.support.proofs import KeyHolder, key_holder
from tests.support.world import PUBLIC_URL, World, running_world

LEASES = "/v1/leases"


async def test_a_bound_token_with_its_proof_is_taken(world: World) -> None:
    job = await key_holder(world)
    token = await job.token()
    answer = await world.http.get(LEASES, headers=job.carrying(token, "GET", LEASES))
    assert answer.status_code == 200, answer.text
    assert answer.headers["dpop-nonce"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", LEASES), ("POST", LEASES), ("GET", "/proxy/acme/raptor-comply/x")]
)
async def test_as_a_bearer_token_it_is_refused_everywhere(world: World, method: str, path: str) -> None:
    job = await key_holder(world, implicit=True)
    token = await job.token()
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Bearer {token}", "DPoP": job.proof(method, path, token)},
        {"Authorization": f"DPoP {token}"},
    ):
        answer = await world.http.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "dpop_proof_needed"), answer.text
        assert answer.headers["www-authenticate"].startswith('DPoP error="invalid_token", algs="ES256 EdDSA')
        assert answer.headers["dpop-nonce"]


async def test_a_replica_that_knows_no_bound_tokens_takes_it_for_none(world: World) -> None:
    token = await (await key_holder(world)).token()
    assert peek(token).header["typ"] == "application/at+jwt", "earlier releases take at+jwt alone"


async def test_in_the_keys_place_it_is_refused(world: World) -> None:
    job = await key_holder(world, implicit=True)
    path = "/proxy/acme/raptor-comply/facilities"
    token = await job.token()
    headers = {"X-Api-Key": token, "DPoP": job.proof("GET", path, token)}
    answer = await world.http.get(path, headers=headers)
    assert answer.status_code == 401, answer.text


async def test_an_unbound_token_does_not_come_as_a_bound_one(world: World) -> None:
    job = await key_holder(world)
    await job.fetch_nonce()
    token = (await job.job.headers())["Authorization"].removeprefix("Bearer ")
    answer = await world.http.get(LEASES, headers=job.carrying(token, "GET", LEASES))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


WRONG: dict[str, dict[str, Any]] = {
    "no token's hash": {"ath": None},
    "another token's hash": {"ath": "A" * 43},
    "another method": {"htm": "POST"},
    "another path": {"htu": f"{PUBLIC_URL}/v1/leases/lse_1"},
    "an old date": {"iat": 1},
}


@pytest.mark.parametrize("fault", sorted(WRONG))
async def test_a_proof_that_does_not_hold_is_refused(world: World, fault: str) -> None:
    job = await key_holder(world)
    token = await job.token()
    answer = await world.http.get(LEASES, headers=job.carrying(token, "GET", LEASES, **WRONG[fault]))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_dpop_proof"), answer.text
    assert 'DPoP error="invalid_dpop_proof"' in answer.headers["www-authenticate"]


async def test_a_query_is_no_part_of_what_is_proved(world: World) -> None:
    job = await key_holder(world)
    token = await job.token()
    answer = await world.http.get(f"{LEASES}?limit=1", headers=job.carrying(token, "GET", LEASES))
    assert answer.status_code == 200


async def test_what_host_says_does_not_matter(world: World) -> None:
    job = await key_holder(world)
    token = await job.token()
    theirs = {**job.carrying(token, "GET", LEASES, htu="http://evil.example/v1/leases"), "Host": "evil.example"}
    assert (await world.http.get(LEASES, headers=theirs)).status_code == 401
    ours = {**job.carrying(token, "GET", LEASES), "Host": "10.0.0.7"}
    assert (await world.http.get(LEASES, headers=ours)).status_code == 200


async def test_a_proof_by_another_key_is_refused(world: World) -> None:
    job = await key_holder(world)
    token = await job.token()
    thief = KeyHolder(job.job, nonce=job.nonce)
    answer = await world.http.get(LEASES, headers=thief.carrying(token, "GET", LEASES))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_dpop_proof")


async def test_a_proof_is_good_once_on_all_replicas(world: World) -> None:
    job = await key_holder(world)
    headers = job.carrying(await job.token(), "GET", LEASES)
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as other:
        answers = await asyncio.gather(*(one.http.get(LEASES, headers=headers) for one in (world, other) * 2))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    assert {answer.json().get("code") for answer in answers} == {None, "dpop_proof_used"}
    assert {answer.headers.get("dpop-nonce") for answer in answers} == {job.nonce}, "each brings the next nonce"


async def test_a_call_with_a_bound_token_alone_goes_through_with_its_proof(world: World) -> None:
    job = await key_holder(world, implicit=True, bound=True)
    token, path = await job.token(), "/proxy/acme/raptor-comply/facilities"
    answer = await world.http.get(path, headers=job.carrying(token, "GET", path))
    assert answer.status_code == 200, answer.text
    again = await world.http.get(path, headers=job.carrying(token, "GET", path))
    assert again.status_code == 200
    assert len(await world.events(kind="lease.issued")) == 1, "one lease serves both"


async def test_an_unbound_token_gets_nothing_of_what_a_bound_one_took(world: World) -> None:
    job = await key_holder(world, implicit=True, bound=True)
    path = "/proxy/acme/raptor-comply/facilities"
    assert (await world.http.get(path, headers=job.carrying(await job.token(), "GET", path))).status_code == 200
    unbound = await world.http.get(path, headers=await job.job.headers())
    assert (unbound.status_code, unbound.json()["code"]) == (403, "bound_token_required")


async def test_a_replayed_call_with_a_bound_token_alone_is_refused(world: World) -> None:
    job = await key_holder(world, implicit=True)
    path = "/proxy/acme/raptor-comply/facilities"
    headers = job.carrying(await job.token(), "GET", path)
    assert (await world.http.get(path, headers=headers)).status_code == 200
    answer = await world.http.get(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "dpop_proof_used")
