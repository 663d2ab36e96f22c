"""Answers that are odd, coded, early or none: what is handed on, what is told, and what is never asked twice."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest

from tests.proxy.conftest import Bench, problem
from tests.proxy.test_streaming import HEAD, until_closed
from tests.support.lab import KEY, Seen, answer


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
    ],
    ids=["999", "600", "101", "lengths", "fields", "size", "nul", "coding", "nonsense", "cut short"],
)
async def test_an_answer_that_cannot_be_read_is_told_and_never_asked_for_again(bench: Bench, said: bytes) -> None:
    async def odd(_seen: Seen, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    bench.lab.scripts["/x"] = odd
    got = await bench.call(await bench.lease(), "/x")
    assert problem(got) == (502, "upstream_unreadable")
    assert "try again" not in got.json()["detail"]
    assert len(bench.lab.calls) == 1
    assert len(await bench.uses()) == 1
    (event,) = await bench.world.events(kind="use.completed")
    assert event["core"]["reason"] == "upstream_unreadable"
    faults = (await bench.world.http.get("/metrics")).text
    assert "keybroker_proxy_faults_total 0.0" in faults, "it is no fault of the broker's"


async def test_only_silence_is_no_answer(bench: Bench) -> None:
    async def silent(_seen: Seen, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    bench.lab.scripts["/x"] = silent
    assert problem(await bench.call(await bench.lease(), "/x")) == (502, "upstream_unreachable")
    assert len(bench.lab.calls) == 3, "which may be asked for again"


async def test_two_equal_lengths_are_one(bench: Bench) -> None:
    bench.lab.scripts["/x"] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
    got = await bench.call(await bench.lease(), "/x")
    assert (got.status_code, got.content) == (200, b"abc")
    assert got.headers.get_list("content-length") == ["3"]


@pytest.mark.parametrize("named", ["", "identity", "identity, identity", "identity\r\nContent-Encoding: Identity"])
async def test_what_encodes_nothing_passes(bench: Bench, named: str) -> None:
    bench.lab.scripts["/x"] = answer(b"plain", f"Content-Encoding: {named}")
    got = await bench.call(await bench.lease(), "/x")
    assert (got.status_code, got.content) == (200, b"plain")


@pytest.mark.parametrize(
    "named", ["br", "zstd", "utf-8", "none", "gzip, br", "gzip\r\nContent-Encoding: br", "compress"]
)
async def test_what_cannot_be_decoded_is_withheld(bench: Bench, named: str) -> None:
    bench.lab.scripts["/x"] = answer(KEY.encode(), f"Content-Encoding: {named}")
    assert problem(await bench.call(await bench.lease(), "/x")) == (502, "upstream_encoding")


@pytest.mark.parametrize(("named", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_what_upstream_compressed_unasked_is_decoded_and_masked(bench: Bench, named: str, pack: Any) -> None:
    echoed = b'{"you sent": "' + KEY.encode() + b'"}'
    bench.lab.scripts["/x"] = answer(pack(echoed), f"Content-Encoding: {named}", 'ETag: "1"')
    for method in ("GET", "POST"):
        got = await bench.call(await bench.lease(), "/x", method)
        assert got.status_code == 200
        assert got.content == echoed.replace(KEY.encode(), b"*" * len(KEY))
        assert "content-encoding" not in got.headers
        assert got.headers["etag"] == '"1"'
    head = await bench.call(await bench.lease(), "/x", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert "content-encoding" not in head.headers


async def test_a_bomb_ends_its_call_long_before_it_is_large(bench: Bench) -> None:
    bench.lab.scripts["/x"] = answer(gzip.compress(b"\0" * 300_000_000), "Content-Encoding: gzip")
    reader, writer = await bench.raw(await bench.lease(), b"GET /proxy/acme/lab/x" + HEAD + b"\r\n")
    assert len(await until_closed(reader)) < 100_000_000
    writer.close()
    (use,) = await bench.uses()
    assert use.status == 200
    assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "upstream_unreadable"


async def test_an_early_refusal_of_a_large_upload_is_handed_on(bench: Bench) -> None:
    async def refusing(_seen: Seen, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
        await writer.drain()
        writer.transport.abort()

    bench.lab.scripts["/up"] = refusing
    lease = await bench.lease()
    for _ in range(5):
        head = b"POST /proxy/acme/lab/up" + HEAD + b"Content-Length: 5000000\r\n\r\n"
        reader, writer = await bench.raw(lease, head + b"x" * 5_000_000)
        assert b"413" in await reader.readline()
        assert (await until_closed(reader)).endswith(b"too big")
        writer.close()
    assert [use.status for use in await bench.uses()] == [413] * 5
