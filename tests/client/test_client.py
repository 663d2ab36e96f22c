"""A job's calls to the broker."""

from __future__ import annotations

import asyncio

from tests.client.served import RAPTOR, ClientBench


async def test_threads_share_one_access_token(bench: ClientBench) -> None:
    await bench.grant()
    client = bench.client()
    leases = await asyncio.gather(*(asyncio.to_thread(client.lease, "acme", RAPTOR) for _ in range(8)))
    assert len({lease["token"] for lease in leases}) == 8
    assert await bench.count("auth.token_issued") == 1


async def test_an_access_token_that_the_broker_no_longer_takes_is_replaced_unnoticed(bench: ClientBench) -> None:
    await bench.grant()
    client = bench.client()
    await asyncio.to_thread(client.leases)
    client._session()._token += "x"
    await asyncio.to_thread(client.leases)
    assert await bench.count("auth.token_issued") == 2
