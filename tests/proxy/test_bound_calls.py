"""Calls under a bound lease: the proof stays at the broker, and is for the call however often that is sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.conftest import Bench
from tests.proxy.test_retries import BUSY, GOOD, Sequence
from tests.support.lab import answer
from tests.support.proofs import KeyHolder
from tests.support.waiting import eventually


async def bound(bench: Bench, **terms: Any) -> tuple[KeyHolder, dict[str, Any]]:
    """A job that holds a key, and its lease in the lab."""
    job = KeyHolder(bench.job)
    grant = await bench.world.grant(bench.job, "acme", provider="lab", **terms)
    return job, await job.lease("acme", provider="lab", grant=grant, ttl=3600)


def proving(job: KeyHolder, lease: dict[str, Any], path: str, method: str = "GET") -> dict[str, str]:
    """The headers that prove it for one call."""
    return {"DPoP": job.proof(method, f"/proxy/acme/lab{path}", lease["token"])}


async def test_the_proof_does_not_go_to_the_upstream(bench: Bench) -> None:
    job, lease = await bound(bench)
    got = await bench.call(lease, "/x", headers=proving(job, lease, "/x"))
    assert got.status_code == 200
    assert "dpop" not in bench.lab.calls[-1].names


async def test_nor_does_one_that_nobody_needed(bench: Bench) -> None:
    assert (await bench.call(await bench.lease(), "/x", headers={"dPoP": "anything"})).status_code == 200
    assert "dpop" not in bench.lab.calls[-1].names


async def test_the_upstreams_nonce_is_not_the_jobs(bench: Bench) -> None:
    job, lease = await bound(bench)
    bench.lab.scripts["/x"] = Sequence(answer(b"good", "DPoP-Nonce: theirs"))
    got = await bench.call(lease, "/x", headers=proving(job, lease, "/x"))
    assert got.headers.get_list("dpop-nonce") == [job.nonce]
    unbound = await bench.call(await bench.lease(), "/x")
    assert "dpop-nonce" not in unbound.headers


@pytest.mark.parametrize("first", [BUSY, b""], ids=["an outage", "a broken connection"])
async def test_a_call_that_is_sent_again_needs_one_proof(bench: Bench, first: bytes) -> None:
    job, lease = await bound(bench)
    bench.lab.scripts["/x"] = Sequence(first, GOOD)
    got = await bench.call(lease, "/x", headers=proving(job, lease, "/x"))
    assert (got.status_code, got.text) == (200, "good")
    again = await bench.call(lease, "/x", headers={"DPoP": "no.proof.here"})
    assert again.status_code == 401


async def test_the_path_is_proved_as_it_is_sent(bench: Bench) -> None:
    job, lease = await bound(bench)
    path = "/a%20b/c%3Fd"
    got = await bench.call(lease, f"{path}?q=1", headers=proving(job, lease, path))
    assert got.status_code == 200, got.text


async def test_a_used_up_quota_spends_no_proof(bench: Bench) -> None:
    job, lease = await bound(bench, rate={"uses": 1, "seconds": 60})
    assert (await bench.call(lease, "/x", headers=proving(job, lease, "/x"))).status_code == 200
    headers = proving(job, lease, "/x")
    assert (await bench.call(lease, "/x", headers=headers)).status_code == 429
    bench.world.clock.forward(seconds=61)
    assert (await bench.call(lease, "/x", headers=headers)).status_code == 200, "all is taken, or nothing"


async def test_two_proofs_are_refused(bench: Bench) -> None:
    job, lease = await bound(bench)
    proofs = [("DPoP", proving(job, lease, "/x")["DPoP"]) for _ in range(2)]
    headers = [("Authorization", f"Bearer {lease['token']}"), *proofs]
    got = await bench.world.http.get("/proxy/acme/lab/x", headers=headers)
    assert (got.status_code, got.json()["code"]) == (401, "invalid_dpop_proof")


async def test_a_token_in_the_keys_place_needs_the_proof_as_well(bench: Bench) -> None:
    job, lease = await bound(bench)
    place = bench.world.services.parts.catalog.get("lab").auth.header
    bare = await bench.world.http.get("/proxy/acme/lab/x", headers={place: lease["token"]})
    assert (bare.status_code, bare.json()["code"]) == (401, "dpop_proof_needed")
    headers = {place: lease["token"], **proving(job, lease, "/x")}
    assert (await bench.world.http.get("/proxy/acme/lab/x", headers=headers)).status_code == 200


async def test_a_body_that_is_long_in_coming_makes_no_used_proof_good_again(either: Bench) -> None:
    job, lease = await bound(either, max_ttl=3600)
    headers = proving(job, lease, "/x", "POST")
    assert (await either.call(lease, "/x", "POST", content=b"body", headers=headers)).status_code == 200
    head = "POST /proxy/acme/lab/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %TOKEN%\r\nContent-Length: 4\r\n"
    reader, writer = await either.raw(lease, f"{head}DPoP: {headers['DPoP']}\r\n\r\nbo".encode())
    await eventually(lambda: len(either.world.services.in_flight) == 1)
    await either.world.work(seconds=1_300)
    writer.write(b"dy")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_a_clock_that_is_set_back_makes_no_used_proof_good_again(either: Bench) -> None:
    job = KeyHolder(either.job)
    await job.fetch_nonce()
    either.world.clock.forward(seconds=200)
    grant = await either.world.grant(either.job, "acme", provider="lab")
    lease = await job.lease("acme", provider="lab", grant=grant)
    proof = job.proof("GET", "/proxy/acme/lab/x", lease["token"], iat=either.world.clock() // 1000 - 120)
    assert (await either.call(lease, "/x", headers={"DPoP": proof})).status_code == 200
    either.world.clock.back(either.world.broker, hours=100 / 3600)
    again = await either.call(lease, "/x", headers={"DPoP": proof})
    assert (again.status_code, again.json()["code"]) == (401, "dpop_proof_used")
