"""A broker that ends: calls under way may end by themselves for a while, then they are cut as by a revocation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.proxy.conftest import Bench, problem
from tests.support.lab import Seen

_ASKED = b"GET /proxy/acme/lab/x HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer %TOKEN%\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def a_stream(bench: Bench) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.Event]]:
    """The job's end of an answer that has begun; its rest comes once the event is set."""
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def held(_seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await writer.drain()
        begun.set()
        await let_go.wait()
        writer.write(b"later")

    bench.lab.scripts["/x"] = held
    reader, writer = await bench.raw(await bench.lease(), _ASKED)
    try:
        await begun.wait()
        yield reader, let_go
    finally:
        let_go.set()
        writer.close()


async def test_a_call_that_ends_within_the_drain_ends_well(bench: Bench) -> None:
    async with a_stream(bench) as (reader, let_go):
        ending = asyncio.create_task(bench.world.services.in_flight.end(60))
        await asyncio.sleep(0)
        let_go.set()
        assert (await reader.read()).endswith(b"firstlater")
        await asyncio.wait_for(ending, 20)
    (use,) = await bench.uses()
    assert use.status == 200
    (completed,) = await bench.world.events(kind="use.completed")
    assert "reason" not in completed["core"]


async def test_a_stream_that_outlasts_the_drain_is_broken_off_with_its_outcome_on_the_record(bench: Bench) -> None:
    async with a_stream(bench) as (reader, _):
        await reader.readuntil(b"first")
        await bench.world.services.in_flight.end(0.1)
        assert await reader.read() == b"", "the answer is cut: less than its length came"
    assert len(bench.world.services.in_flight) == 0
    await bench.uses()
    (completed,) = await bench.world.events(kind="use.completed")
    assert completed["core"]["reason"] == "broker_ending"
    assert (completed["core"]["outcome"]["status"], completed["core"]["outcome"]["bytes_in"]) == (200, 5)


async def test_once_calls_were_cut_no_further_one_is_taken(bench: Bench) -> None:
    lease = await bench.lease()
    await bench.world.services.in_flight.end(0)
    refused = await bench.call(lease, "/x")
    assert problem(refused) == (503, "broker_ending")
    assert refused.headers["retry-after"] == "1"
    assert bench.lab.calls == []
