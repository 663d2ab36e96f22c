"""Connections to upstreams that end, break or are given up in the middle: what is made of them, and what is left."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from broker.base.outbound import Outbound, Unreachable
from broker.wire.client import BrokenOff, NoAnswer
from broker.wire.upload import framed
from tests.support.certificates import certify
from tests.wire.test_answers import asked, connected

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


async def parts(*given: bytes) -> AsyncIterator[bytes]:
    for part in given:
        yield part


def endless() -> AsyncIterator[bytes]:
    return parts(*[b"x" * 65_536] * 1_000)


@LOOPS
def test_one_that_ended_before_it_was_asked_gives_no_answer(run: Run) -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def case() -> None:
        async with connected(script) as exchange:
            while not exchange.closed:
                await asyncio.sleep(0)
            with pytest.raises(NoAnswer):
                await asked(exchange)

    run(case())


@LOOPS
@pytest.mark.parametrize(
    ("said", "made"),
    [
        (b"", NoAnswer),
        (b"HTTP/1.1 200 OK\r\n\r\nwhole", b"whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", BrokenOff),
    ],
    ids=["silent", "whole", "within its body"],
)
def test_an_answer_ends_with_its_sender_though_an_upload_is_never_taken(run: Run, said: bytes, made: Any) -> None:
    async def case() -> None:
        done = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.write_eof()
            await done.wait()

        async with connected(script) as exchange:
            if isinstance(made, bytes):
                assert (await asked(exchange, "POST", endless()))[1] == made
            else:
                with pytest.raises(made):
                    await asked(exchange, "POST", endless())
            assert not exchange.reusable
            done.set()

    run(case())


@LOOPS
def test_one_on_which_something_is_still_to_be_sent_is_not_used_again(run: Run) -> None:
    async def case() -> None:
        done = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await done.wait()

        async with connected(script) as exchange:
            assert (await asked(exchange, "POST", b"x" * 20_000_000))[0] == 200
            assert not exchange.reusable
            done.set()

    run(case())


@LOOPS
def test_an_upload_that_fails_after_the_whole_answer_came_does_not_take_it_back(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await reader.read()

    async def case() -> None:
        came, failed = asyncio.Event(), asyncio.Event()

        async def failing() -> AsyncIterator[bytes]:
            yield b"some"
            await came.wait()
            failed.set()
            raise ZeroDivisionError

        async with connected(script) as exchange, asyncio.timeout(20):
            answer = await exchange.ask("POST", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", failing(), None)
            came.set()  # in one packet with its body
            await failed.wait()
            await asyncio.sleep(0)
            assert b"".join([part async for part in answer.chunks()]) == b"big"
            assert not exchange.reusable

    run(case())


async def test_an_upload_goes_on_where_no_second_handle_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"0\r\n\r\n")).endswith(b"3\r\nabc\r\n0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setattr(os, "dup", none_left)
    async with connected(script) as exchange:
        assert (await asked(exchange, "POST", parts(b"abc")))[0] == 200


async def test_what_is_sent_is_one_body_whatever_its_parts_are() -> None:
    out = bytearray()

    async def sent(length: int | None, *given: bytes) -> bytes:
        out.clear()
        async for part in framed(parts(*given), length):
            out.extend(part)
        return bytes(out)

    assert await sent(None, b"ab", b"", b"c") == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "an empty one does not end it"
    assert await sent(None) == b"0\r\n\r\n"
    assert await sent(3, b"ab", b"", b"c") == b"abc"
    for length, given in ((3, (b"ab",)), (3, (b"ab", b"cd")), (0, (b"a",))):
        with pytest.raises(ConnectionResetError):
            await sent(length, *given)
        assert len(out) <= length, "no byte goes beyond what was declared: it would be the next request"


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's end of TLS, which this process trusts for 127.0.0.1."""
    certify(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    return tls


async def got(outbound: Outbound, url: str, *, limited: bool = True, **more: Any) -> bytes:
    asking = outbound.call if limited else outbound.unlimited
    async with asyncio.timeout(20), asking("GET", url, headers=[], private=True, **more) as answer:
        return b"".join([part async for part in answer.chunks()])


@LOOPS
def test_a_body_that_ends_with_tls_is_whole_only_where_its_end_was_told(run: Run, certified: ssl.SSLContext) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = b"/told" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nsome")
        await writer.drain()
        await asyncio.sleep(0.1)
        if told:
            writer.close()
        else:
            writer.transport.abort()  # as whoever sits in between can

    async def case() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certified)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        outbound = Outbound()
        assert await got(outbound, f"{url}/told") == b"some"
        with pytest.raises(BrokenOff):
            await got(outbound, f"{url}/cut")
        await outbound.close()
        server.close()

    run(case())


def _handles() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("fresh", [True, False], ids=["dialled", "kept"])
def test_one_that_is_given_up_at_any_point_leaves_nothing_and_harms_no_other(
    run: Run, certified: ssl.SSLContext, scheme: str, fresh: bool
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while asked := await reader.readuntil(b"\r\n\r\n"):
                path = asked.split(b" ")[1]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            writer.close()

    async def case() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certified if scheme == "https" else None)
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        wrong: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        outbound = Outbound()
        await got(outbound, f"{url}/first")
        handles, tasks = _handles(), len(asyncio.all_tasks())
        for steps in range(60):
            if fresh:
                await outbound.close()
                outbound = Outbound()
            call = asyncio.create_task(got(outbound, f"{url}/given-up", limited=not steps % 2))
            for step in range(steps):
                await asyncio.sleep(0.0005 if step % 4 == 3 else 0)
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled() or call.result() == b"/given-up"
            assert await got(outbound, f"{url}/{steps}") == f"/{steps}".encode()
        await outbound.close()
        async with asyncio.timeout(20):
            while _handles() >= handles or len(asyncio.all_tasks()) > tasks:
                await asyncio.sleep(0.02)
        assert not wrong
        server.close()

    run(case())


async def test_no_certificate_but_a_trusted_one_for_that_name_will_do(
    certified: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certified)
    port = server.sockets[0].getsockname()[1]
    trusting = Outbound()
    monkeypatch.delenv("SSL_CERT_FILE")
    for outbound, host in ((trusting, "localhost"), (Outbound(), "127.0.0.1")):
        with pytest.raises(Unreachable):
            await got(outbound, f"https://{host}:{port}/")
        await outbound.close()
    server.close()
