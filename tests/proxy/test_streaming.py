"""Both ways as it comes, within caps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.proxy.conftest import HASTY_S, Bench, problem
from tests.support.lab import Seen, answer, body_of
from tests.support.waiting import eventually

HEAD = b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %TOKEN%\r\nConnection: close\r\n"
# Only so that a test which would wait for ever fails instead: nothing is measured by it.
PATIENCE_S = 60
# What the sockets' buffers hold, and little more.
BUFFERED = 30_000_000


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_server_sent_events_come_as_they_are_sent(bench: Bench) -> None:
    received = asyncio.Queue[None]()

    async def events(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            event = f"data: lab {number}\n\n".encode()
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            await writer.drain()
            await received.get()  # the next one only once this one has arrived
        writer.write(b"0\r\n\r\n")

    bench.lab.scripts["/events"] = events
    reader, writer = await bench.raw(await bench.lease(), b"GET /proxy/acme/lab/events" + HEAD + b"\r\n")
    assert b"x-accel-buffering: no" in (await reader.readuntil(b"\r\n\r\n")).lower()
    for number in range(3):
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readuntil(b"\n\n\r\n") == f"d\r\ndata: lab {number}\n\n\r\n".encode()
        received.put_nowait(None)
    assert await reader.read() == b"0\r\n\r\n"
    writer.close()


async def test_an_upload_reaches_the_upstream_while_it_is_being_sent(bench: Bench) -> None:
    arrived = asyncio.Queue[int]()

    async def swallow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for chunk in body_of(seen, reader):
            arrived.put_nowait(len(chunk))
        writer.write(answer(b"done"))

    bench.lab.scripts["/up"] = swallow
    head = b"POST /proxy/acme/lab/up" + HEAD + b"Content-Length: 200000\r\n\r\n"
    reader, writer = await bench.raw(await bench.lease(), head + b"x" * 100_000)
    got = 0
    async with asyncio.timeout(PATIENCE_S):
        while got < 100_000:
            got += await arrived.get()
    writer.write(b"x" * 100_000)
    assert (await reader.read()).endswith(b"done")
    writer.close()
    (completed,) = [e for e in await bench.world.events(kind="use.completed") if e["core"].get("lease")]
    assert completed["core"]["outcome"]["bytes_out"] == 200_000


async def stood_still(bench: Bench, progress: Callable[[], int]) -> int:
    """How far it came before it stood still: other calls come and go meanwhile, and nothing moves."""
    lease, before = await bench.lease(), -1
    while progress() != before:
        before = progress()
        assert before < BUFFERED
        for _ in range(3):
            assert (await bench.call(lease, "/other")).status_code == 200
    return before


async def test_a_job_that_reads_slowly_holds_the_upstream_back(bench: Bench) -> None:
    sent = 0

    async def flood(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    bench.lab.scripts["/flood"] = flood
    _, writer = await bench.raw(await bench.lease(), b"GET /proxy/acme/lab/flood" + HEAD + b"\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket transport's
    try:
        await eventually(lambda: sent)
        assert await stood_still(bench, lambda: sent) < BUFFERED
    finally:  # or else the broker would wait for the call to end
        writer.transport.abort()


async def test_an_upstream_that_reads_slowly_holds_the_job_back(bench: Bench) -> None:
    async def stalled(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        raise ConnectionResetError

    over = asyncio.Event()
    bench.lab.scripts["/stalled"] = stalled
    head = b"POST /proxy/acme/lab/stalled" + HEAD + b"Content-Length: 1000000000\r\n\r\n"
    _, writer = await bench.raw(await bench.lease(), head)
    sent = 0

    async def push() -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    pushing = asyncio.create_task(push())
    try:
        await eventually(lambda: bench.lab.calls)
        assert await stood_still(bench, lambda: sent) < BUFFERED
    finally:
        pushing.cancel()
        over.set()
        writer.transport.abort()


async def test_a_job_that_leaves_within_an_upload_ends_the_call_upstream(bench: Bench) -> None:
    arrived = 0

    async def swallow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        async for chunk in body_of(seen, reader):
            arrived += len(chunk)

    bench.lab.scripts["/up"] = swallow
    head = b"POST /proxy/acme/lab/up" + HEAD + b"Content-Length: 9000000\r\n\r\n"
    _, writer = await bench.raw(await bench.lease(), head + b"x" * 100_000)
    await eventually(lambda: arrived)
    writer.close()
    async with asyncio.timeout(PATIENCE_S):
        await bench.lab.calls[-1].left.wait()
    (use,) = await bench.uses()
    assert use.status is None


async def test_an_answer_that_breaks_off_is_not_ended_well(bench: Bench) -> None:
    for script in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ):

        async def breaking(_s: Seen, _r: Any, writer: asyncio.StreamWriter, script: bytes = script) -> None:
            writer.write(script)
            await writer.drain()
            raise ConnectionResetError

        bench.lab.scripts["/x"] = breaking
        reader, writer = await bench.raw(await bench.lease(), b"GET /proxy/acme/lab/x" + HEAD + b"\r\n")
        got = await until_closed(reader)
        writer.close()
        assert b"half" in got
        assert b"0\r\n\r\n" not in got, "nothing says that it is whole"
        assert b"problem" not in got
    assert [use.status for use in await bench.uses()] == [200, 200]
    assert {event["core"]["reason"] for event in await bench.world.events(kind="use.completed")} == {"unreachable"}


async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if not await reader.read(1):
        seen.left.set()


TRICKLE = 1000


async def trickling(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TRICKLE)
    for _ in range(TRICKLE):
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.1)


async def test_a_call_that_stands_still_is_ended(hasty: Bench) -> None:
    hasty.lab.scripts["/x"] = silent
    assert problem(await hasty.call(await hasty.lease(), "/x")) == (504, "call_timeout")
    assert (await hasty.world.events(kind="use.completed"))[-1]["core"]["reason"] == "call_timeout"


async def test_a_call_that_takes_too_long_is_ended(hasty: Bench) -> None:
    hasty.lab.scripts["/x"] = trickling
    lease = await hasty.lease()
    began = time.monotonic()
    reader, writer = await hasty.raw(lease, b"GET /proxy/acme/lab/x" + HEAD + b"\r\n")
    got = await until_closed(reader)
    writer.close()
    assert time.monotonic() - began >= HASTY_S, "it never stood still, so it was not ended for that"
    assert 0 < got.count(b".") < TRICKLE


async def test_bytes_are_capped_each_way(narrow: Bench) -> None:
    lease = await narrow.lease()
    refused = await narrow.call(lease, "/x", "POST", content=b"x" * 300_000)
    assert problem(refused) == (413, "too_large")
    narrow.lab.scripts["/big"] = answer(b"x" * 300_000)
    reader, writer = await narrow.raw(lease, b"GET /proxy/acme/lab/big" + HEAD + b"\r\n")
    assert (await until_closed(reader)).count(b"x" * 100) <= 2_000
    writer.close()


async def test_calls_at_once_are_capped(narrow: Bench) -> None:
    async def held(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.write(answer(b"ok"))

    over = asyncio.Event()
    narrow.lab.scripts["/x"] = held
    lease = await narrow.lease()
    calls = [asyncio.create_task(narrow.call(lease, "/x", "POST")) for _ in range(6)]
    await eventually(lambda: sum(call.done() for call in calls) == 3)
    for refused in [call.result() for call in calls if call.done()]:
        assert problem(refused) == (503, "too_many_calls")
        assert refused.headers["retry-after"] == "1"
    over.set()
    assert sorted([(await call).status_code for call in calls]) == [200, 200, 200, 503, 503, 503]
    assert (await narrow.call(lease, "/x", "POST")).status_code == 200, "there is room again"
