"""A job's calls to the broker."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from broker.client.identity import generate, public
from tests.client.served import RAPTOR, ClientBench


async def test_threads_share_one_access_token(bench: ClientBench) -> None:
    await bench.grant()
    client = bench.client()
    leases = await asyncio.gather(*(asyncio.to_thread(client.lease, "acme", RAPTOR) for _ in range(8)))
    assert len({lease.token for lease in leases}) == 8
    assert await bench.count("auth.token_issued") == 1


async def test_an_access_token_that_the_broker_no_longer_takes_is_replaced_unnoticed(bench: ClientBench) -> None:
    await bench.grant()
    client = bench.client()
    await asyncio.to_thread(client.leases)
    client._session()._kept[False].token += "x"
    await asyncio.to_thread(client.leases)
    assert await bench.count("auth.token_issued") == 2


async def test_a_lease_has_types_and_shows_no_secret(bench: ClientBench) -> None:
    await bench.grant(modes=["use", "reveal"])
    client = bench.client()
    lease = await asyncio.to_thread(client.lease, "acme", RAPTOR, mode="reveal", ttl=600, purpose="nightly")
    assert (lease.provider, lease.label, lease.mode, lease.state) == (RAPTOR, "default", "reveal", "active")
    assert (lease.organization_slug, lease.purpose, lease.version) == ("acme", "nightly", 1)
    assert lease.expires_at - lease.issued_at == timedelta(seconds=600)
    assert lease.proxy_url == f"{bench.url}/proxy/{lease.organization}/{RAPTOR}"
    assert lease.key is not None
    for secret in (lease.token, lease.key):
        assert secret not in repr(lease)


async def test_every_answer_about_a_lease_is_one(bench: ClientBench) -> None:
    await bench.grant()
    client = bench.client()
    issued = await asyncio.to_thread(client.lease, "acme", RAPTOR, ttl=60)
    renewed = await asyncio.to_thread(client.renew, issued.id, 600)
    assert renewed.expires_at > issued.expires_at
    assert await asyncio.to_thread(client.find, issued.id) == renewed
    ended = await asyncio.to_thread(client.end, issued.id)
    assert (ended.id, ended.state) == (issued.id, "ended")
    with pytest.raises(FrozenInstanceError):
        ended.state = "active"  # type: ignore[misc]  # that is what is tried


async def test_a_job_sees_all_its_leases_page_by_page(bench: ClientBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.client.client.PAGE", 2)
    await bench.grant()
    client = bench.client()
    issued = [(await asyncio.to_thread(client.lease, "acme", RAPTOR)).id for _ in range(5)]
    assert [lease.id for lease in await asyncio.to_thread(client.leases)] == issued
    newest = await asyncio.to_thread(lambda: list(client.each_lease(newest=True)))
    assert [lease.id for lease in newest] == issued[::-1]


async def test_a_job_is_told_which_keys_of_its_own_prove_something(bench: ClientBench) -> None:
    fresh = public(generate())["keys"][0]
    job = await asyncio.to_thread(bench.client().rotate_key, fresh, overlap_seconds=60)
    assert (job.id, job.state) == (bench.identity.client_id, "active")
    assert set(job.key_ids) == {fresh["kid"], bench.identity.private_jwk["kid"]}
