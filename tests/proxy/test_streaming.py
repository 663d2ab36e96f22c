"""Both ways as it comes, within caps."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.proxy.conftest import Bench, problem
from tests.support.lab import Seen, answer, body_of

HEAD = b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %TOKEN%\r\nConnection: close\r\n"


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
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
        async with asyncio.timeout(2):
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
    async with asyncio.timeout(2):
        while got < 100_000:
            got += await arrived.get()
    writer.write(b"x" * 100_000)
    assert (await reader.read()).endswith(b"done")
    writer.close()
    (completed,) = [e for e in await bench.world.events(kind="use.completed") if e["core"].get("lease")]
    assert completed["core"]["outcome"]["bytes_out"] == 200_000


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
    await asyncio.sleep(0.5)
    before = sent
    await asyncio.sleep(0.5)
    assert sent == before, "it stands still"
    assert sent < 30_000_000, "what the sockets' buffers hold, and little more"
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
    await asyncio.sleep(0.7)
    before = sent
    await asyncio.sleep(0.5)
    assert sent == before
    assert sent < 30_000_000
    pushing.cancel()
    over.set()
    writer.transport.abort()


async def test_a_job_that_leaves_within_an_upload_ends_the_call_upstream(bench: Bench) -> None:
    async def swallow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in body_of(seen, reader):
            pass

    bench.lab.scripts["/up"] = swallow
    head = b"POST /proxy/acme/lab/up" + HEAD + b"Content-Length: 9000000\r\n\r\n"
    _, writer = await bench.raw(await bench.lease(), head + b"x" * 100_000)
    await asyncio.sleep(0.1)
    writer.close()
    async with asyncio.timeout(3):
        while not bench.lab.calls:
            await asyncio.sleep(0.01)
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


async def trickling(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.1)


async def test_a_call_that_stands_still_is_ended(hasty: Bench) -> None:
    hasty.lab.scripts["/x"] = silent
    assert problem(await hasty.call(await hasty.lease(), "/x")) == (504, "call_timeout")
    assert (await hasty.world.events(kind="use.completed"))[-1]["core"]["reason"] == "call_timeout"


async def test_a_call_that_takes_too_long_is_ended(hasty: Bench) -> None:
    hasty.lab.scripts["/x"] = trickling
    reader, writer = await hasty.raw(await hasty.lease(), b"GET /proxy/acme/lab/x" + HEAD + b"\r\n")
    got = await until_closed(reader)
    writer.close()
    assert 10 < got.count(b".") < 40


async def test_bytes_are_capped_each_way(hasty: Bench) -> None:
    lease = await hasty.lease()
    refused = await hasty.call(lease, "/x", "POST", content=b"x" * 300_000)
    assert problem(refused) == (413, "too_large")
    hasty.lab.scripts["/big"] = answer(b"x" * 300_000)
    reader, writer = await hasty.raw(lease, b"GET /proxy/acme/lab/big" + HEAD + b"\r\n")
    assert (await until_closed(reader)).count(b"x" * 100) <= 2_000
    writer.close()


async def test_calls_at_once_are_capped(hasty: Bench) -> None:
    hasty.lab.scripts["/x"] = silent
    lease = await hasty.lease()
    answers = await asyncio.gather(*(hasty.call(lease, "/x", "POST") for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [503, 503, 503, 504, 504, 504]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert problem(refused) == (503, "too_many_calls")
    assert refused.headers["retry-after"] == "1"
