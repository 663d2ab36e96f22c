"""A client whose leases are bound to a key of its process proves each call by itself."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import Any

import httpx2
import pytest
import requests

from broker.client.client import Client
from broker.client.errors import CallFailed
from broker.client.proofs import ProofKey
from broker.client.upstream import Upstream
from broker.formats import base64url
from tests.client.served import LAB, RAPTOR, ClientBench
from tests.client.test_upstream import EVERY_LIBRARY
from tests.support.lab import KEY, answer


async def bound(bench: ClientBench, provider: str = RAPTOR, **terms: Any) -> Upstream:
    """The job's upstream under a bound lease."""
    return await asyncio.to_thread(bench.client().upstream, "acme", provider, **terms)


async def test_a_grant_that_asks_for_it_has_bound_leases_unasked(bench: ClientBench) -> None:
    await bench.grant(bound=True)
    async with await bound(bench) as acme:
        assert acme.bound
        response = await asyncio.to_thread(requests.get, f"{acme.url}/facilities", auth=acme, timeout=10)
        assert response.status_code == 200, response.text
        stolen = {"Authorization": f"Bearer {acme.token}"}
        refused = await asyncio.to_thread(requests.get, f"{acme.url}/facilities", headers=stolen, timeout=10)
        assert refused.status_code == 401


@pytest.mark.parametrize("library", EVERY_LIBRARY)
async def test_each_library_proves_each_call(bench: ClientBench, library: Any) -> None:
    await bench.grant(LAB)
    bench.lab.scripts["/x"] = answer(b"good")
    async with await bound(bench, LAB, bound=True) as acme:
        for _ in range(2):
            status, content = await asyncio.to_thread(library, acme, f"{acme.url}/x")
            assert (status, content) == (200, b"good")
    assert all("dpop" not in seen.names for seen in bench.lab.calls), "the proof stays at the broker"


async def test_a_transport_proves_the_address_that_it_calls(bench: ClientBench) -> None:
    await bench.grant(LAB)
    bench.lab.scripts["/x"] = answer(b"good")
    async with await bound(bench, LAB, bound=True) as acme:
        transport = acme.transport("https://lab.example")

        def get() -> httpx2.Response:
            with httpx2.Client(transport=transport) as client:
                return client.get("https://lab.example/x?a=b")

        assert (await asyncio.to_thread(get)).status_code == 200


async def test_a_nonce_that_is_over_is_renewed_unnoticed(bench: ClientBench) -> None:
    await bench.grant(LAB)
    bench.lab.scripts["/x"] = answer(b"good")
    client = bench.client()
    async with await asyncio.to_thread(lambda: client.upstream("acme", LAB, bound=True)) as acme:
        for spoiled in ("", "A" * 22):
            client.note({"DPoP-Nonce": spoiled or "none"})

            def get() -> int:
                with httpx2.Client(auth=acme) as http:
                    return http.post(f"{acme.url}/x", content=b"body").status_code

            assert await asyncio.to_thread(get) == 200
        client.note({"DPoP-Nonce": "another"})
        await asyncio.to_thread(client.leases)


async def test_a_client_may_ask_for_every_lease_to_be_bound(bench: ClientBench) -> None:
    await bench.grant()
    with Client(bench.identity, bound=True) as client:
        lease = await asyncio.to_thread(client.lease, "acme", RAPTOR)
        assert lease.bound
        url = f"{lease.proxy_url}/facilities"
        headers = {"Authorization": f"Bearer {lease.token}", "DPoP": client.proof("GET", url, lease.token)}
        assert (await asyncio.to_thread(requests.get, url, headers=headers, timeout=10)).status_code == 200
        await asyncio.to_thread(client.renew, lease.id, 600)
        assert (await asyncio.to_thread(client.end, lease.id)).state == "ended"


async def test_a_token_that_is_handed_out_is_bound_to_nothing(bench: ClientBench) -> None:
    await bench.grant()
    with Client(bench.identity, bound=True) as client:
        await asyncio.to_thread(client.lease, "acme", RAPTOR)
        token = await asyncio.to_thread(client.token)
    headers = {"Authorization": f"Bearer {token}"}
    answered = await asyncio.to_thread(requests.get, f"{bench.url}/v1/leases", headers=headers, timeout=10)
    assert answered.status_code == 200


async def test_headers_of_a_bound_lease_need_the_call(bench: ClientBench) -> None:
    await bench.grant()
    async with await bound(bench, bound=True) as acme:
        with pytest.raises(ValueError, match="say its method and URL"):
            acme.headers()
        assert set(acme.headers("GET", f"{acme.url}/x")) == {"Authorization", "DPoP"}


async def test_who_asks_for_no_bound_lease_sends_no_proof(bench: ClientBench) -> None:
    await bench.grant()
    async with await bound(bench) as acme:
        assert not acme.bound
        assert set(acme.headers()) == {"Authorization"}
    assert await bench.count("auth.token_issued") == 1


async def test_a_refusal_of_policy_is_told_as_ever(bench: ClientBench) -> None:
    with pytest.raises(CallFailed) as refused:
        await bound(bench, bound=True)
    assert refused.value.code == "no_grant"


def test_a_key_shows_no_private_part() -> None:
    key = ProofKey()
    header = json.loads(base64url.decode(key.proof("GET", "https://keys.example/x", KEY).partition(".")[0]))
    assert set(header["jwk"]) == {"kty", "crv", "x", "y"}
    assert header["jwk"]["x"] not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
