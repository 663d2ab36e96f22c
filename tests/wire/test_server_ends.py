"""Connections whose other end stops, slows down or asks too much: none is held for longer than it may be."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.sandbox.serve import running as serving
from broker.wire.cycle import Cycle
from broker.wire.framing import Bounds
from broker.wire.request import read_head
from broker.wire.server import Connection, Limits
from tests.wire.test_server import GET, Stranger, met

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@asynccontextmanager
async def served(app: ASGIApp, **limits: Any) -> AsyncIterator[tuple[int, list[Connection]]]:
    """The application's port, and the connections that were made to it."""
    made: list[Connection] = []

    class Noted(Connection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            super().connection_made(transport)

    async with serving(app, protocol=partial(Noted, limits=Limits(**limits))) as url:
        yield int(url.rpartition(":")[2]), made


async def gone(connection: Connection) -> None:
    async with asyncio.timeout(20):
        while connection in connection.server_state.connections:
            await asyncio.sleep(0.02)


def narrow(port: int) -> socket.socket:
    """A stranger whose system takes little at once."""
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stranger.connect(("127.0.0.1", port))
    stranger.setblocking(False)
    return stranger


async def streams(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with more than systems hold, until it hears that the stranger left; ``/proxy/ends`` with one chunk."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    tasks = {
        asyncio.create_task(_body(send, 1 if scope["path"] == "/proxy/ends" else 1_000)),
        asyncio.create_task(_left(receive)),
    }
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _body(send: Any, parts: int) -> None:
    for _ in range(parts):
        await send({"type": "http.response.body", "body": b"y" * 8_000_000, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@LOOPS
def test_who_asks_stops_sending_and_takes_nothing_is_not_kept(run: Run) -> None:
    async def case() -> None:
        async with served(streams, body_seconds=0.3) as (port, made):
            with narrow(port) as stranger:
                stranger.sendall(b"GET /proxy/x HTTP/1.1\r\nHost: a\r\n\r\n")
                await asyncio.sleep(0.3)
                stranger.shutdown(socket.SHUT_WR)
                await gone(made[0])
            assert not made[0].server_state.tasks

    run(case())


@LOOPS
def test_who_does_not_take_the_end_of_a_stream_is_not_kept(run: Run) -> None:
    async def case() -> None:
        async with served(streams, body_seconds=0.3) as (port, made):
            with narrow(port) as stranger:
                stranger.sendall(b"GET /proxy/ends HTTP/1.1\r\nHost: a\r\n\r\n")
                await asyncio.sleep(0.1)
                await gone(made[0])

    run(case())


@LOOPS
def test_who_takes_next_to_nothing_at_a_time_is_not_kept(run: Run) -> None:
    async def case() -> None:
        async with served(streams, body_seconds=0.5) as (port, made):
            with narrow(port) as stranger:
                stranger.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
                await asyncio.sleep(0.1)

                async def trickles() -> None:
                    with suppress(ConnectionError):
                        while True:
                            await asyncio.get_running_loop().sock_recv(stranger, 10)
                            await asyncio.sleep(0.05)

                trickling = asyncio.create_task(trickles())
                await gone(made[0])
                trickling.cancel()
                await asyncio.wait({trickling})

    run(case())


@LOOPS
def test_empty_lines_do_not_hold_a_connection_open(run: Run) -> None:
    async def case() -> None:
        async with met(head_seconds=0.4) as (_, meet):
            stranger: Stranger = await meet()

            async def trickles() -> None:
                with suppress(ConnectionError):
                    for _ in range(1_000):
                        await stranger.says(b"\r")
                        await asyncio.sleep(0.02)
                        await stranger.says(b"\n")
                        await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickles())
            assert await stranger.problem() == (400, "bad_request")
            trickling.cancel()
            stranger = await meet()
            await stranger.says(b"\r\n" * 3 + GET)
            assert (await stranger.hears())[0] == 200, "a few are passed over (RFC 9112 §2.2)"

    run(case())


@LOOPS
def test_an_answer_that_ends_with_its_connection_is_reset_where_it_is_broken_off(run: Run) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ZeroDivisionError

    async def case() -> None:
        async with served(broken) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(case())


@LOOPS
def test_requests_before_their_time_see_nothing_of_one_another(run: Run) -> None:
    whose = contextvars.ContextVar("whose", default="nobody's")
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(whose.get())
        whose.set(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def case() -> None:
        async with served(app) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET * 3)
            for _ in range(3):
                await reader.readuntil(b"\r\n\r\n")
            writer.close()

    run(case())
    assert seen == ["nobody's"] * 3


@LOOPS
def test_a_body_that_was_not_asked_for_is_not_waited_for(run: Run) -> None:
    async def case() -> None:
        async with met() as (app, meet):
            stranger: Stranger = await meet()
            asking = b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\nExpect: 100-continue\r\n\r\n"
            await stranger.says(asking)
            status, headers, _ = await stranger.hears()
            assert (status, headers["connection"]) == (200, "close")
            await stranger.says(GET)  # or its body: nobody could tell
            await stranger.ended()
            assert [scope["path"] for scope in app.scopes] == ["/unread"]

    run(case())


@LOOPS
def test_a_server_that_ends_takes_no_further_request(run: Run) -> None:
    release, seen = asyncio.Event(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        if scope["path"] == "/hold":
            await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"yes"})

    async def case() -> None:
        async with served(app) as (port, made):
            idle, uploading, held = [Stranger(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(3)]
            await idle.says(GET)
            await uploading.says(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
            for stranger in (idle, uploading):
                assert (await stranger.hears())[0] == 200
            await held.says(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
            while "/hold" not in seen:
                await asyncio.sleep(0.01)
            for connection in made:
                connection.shutdown()
            await idle.ended()
            await uploading.says(b"x" * 6 + GET)
            await uploading.ended()
            release.set()
            status, headers, body = await held.hears()
            assert (status, headers["connection"], body) == (200, "close", b"yes")
            await held.ended()
            assert sorted(seen) == ["/hold", "/unread", "/x"]
            for stranger in (idle, uploading, held):
                stranger.writer.close()

    run(case())


async def test_a_problem_in_answer_to_head_has_no_body() -> None:
    async with met() as (_, meet):
        stranger: Stranger = await meet()
        await stranger.says(b"HEAD /raises HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(20):
            whole = await stranger.reader.read()
        assert whole.startswith(b"HTTP/1.1 500 ")
        assert whole.endswith(b"\r\n\r\n")


async def test_those_that_are_too_many_are_bounded_too() -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        """Never asked."""

    async with served(nothing, connections=8) as (port, made):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        while len(made) < 60:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert len(made[0].server_state.connections) <= 10
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize("size", [1, 2])
async def test_what_of_a_body_waits_to_be_taken_is_told_as_it_comes(size: int) -> None:
    head = read_head(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999", Bounds(9999, 9))
    cycle = Cycle(None, head, streamed=True, default=[])  # type: ignore[arg-type]  # nothing is written
    counted = [cycle.came(b"x" * size, last=False) for _ in range(1_000)]
    assert counted == [size * (n + 1) for n in range(1_000)]
    assert (await cycle.receive())["body"] == b"x" * size * 1_000
    assert cycle.came(b"y", last=False) == 1
