"""A connection that strangers hold: what they may send, how much of it, and how long they may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from broker.sandbox.serve import running as serving
from broker.wire.framing import Bounds
from broker.wire.reply import head_of
from broker.wire.server import AS_SENT, TARGET, Connection, Limits

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class App:
    """Answers with what it was asked; ``/hold`` waits until it is released, ``/unread`` doesn't read its body."""

    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/raises":
            raise ZeroDivisionError
        if scope["path"] != "/unread":
            body, more = b"", True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.ended.append(scope["path"])
                    return
                body, more = body + message["body"], message["more_body"]
            self.bodies.append(body)
        if scope["path"] == "/hold":
            await self.release.wait()
        headers = [(b"content-type", b"text/plain")]
        large = b"y" * 40_000_000
        answer = large if scope["path"] == "/large" else b"yes"
        if scope["path"] != "/chunks":
            headers.append((b"content-length", str(len(answer)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer[:1], "more_body": True})
        if scope["path"] == "/half":
            raise ZeroDivisionError
        await send({"type": "http.response.body", "body": answer[1:]})


@dataclass
class Stranger:
    """A connection of bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hears(self) -> tuple[int, dict[str, str], bytes]:
        """One whole answer: status, headers by lower case name, body."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")[:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return int(first.split()[1]), headers, body

    async def problem(self) -> tuple[int, str]:
        """An answer that is a problem, after which nothing comes: its status and code."""
        status, headers, body = await self.hears()
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        said = json.loads(body)
        assert said["status"] == status
        assert said["type"] == f"urn:keybroker:problem:{said['code']}"
        assert said["detail"].endswith(".")
        await self.ended()
        return status, said["code"]

    async def ended(self) -> None:
        """The other side ends."""
        async with asyncio.timeout(20):
            assert await self.reader.read() == b""


Meet = Callable[..., Awaitable[Stranger]]


@asynccontextmanager
async def met(**limits: Any) -> AsyncIterator[tuple[App, Meet]]:
    """An application behind the protocol, and a way to meet it."""
    app, strangers = App(), []
    protocol = partial(Connection, limits=Limits(**limits))
    async with serving(app, protocol=protocol) as url:

        async def meet() -> Stranger:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1 << 17)
            strangers.append(writer)
            return Stranger(reader, writer)

        yield app, meet
        app.release.set()
        for writer in strangers:
            writer.close()


@pytest.fixture
async def room() -> AsyncIterator[tuple[App, Meet]]:
    async with met() as made:
        yield made


async def test_requests_come_one_after_another_on_one_connection(room: tuple[App, Meet]) -> None:
    app, meet = room
    stranger = await meet()
    for _ in range(3):
        await stranger.says(b"POST /x?a=b HTTP/1.1\r\nHost: a\r\nX-CaSe: y\r\nContent-Length: 3\r\n\r\nabc")
        assert (await stranger.hears())[::2] == (200, b"yes")
    await stranger.says(GET * 3)  # and before their time
    for _ in range(3):
        assert (await stranger.hears())[::2] == (200, b"yes")
    assert app.bodies == [b"abc"] * 3 + [b""] * 3
    scope = app.scopes[0]
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/x", b"a=b")
    assert (b"x-case", b"y") in scope["headers"]
    assert (b"X-CaSe", b"y") in scope["extensions"][AS_SENT]
    assert scope["extensions"][TARGET] == b"/x?a=b"
    assert scope["client"][0] == "127.0.0.1"


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
async def test_fields_after_a_body_never_act_as_headers_however_packets_fall(room: tuple[App, Meet], step: int) -> None:
    app, meet = room
    stranger = await meet()
    sent = (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
        b"Authorization: Bearer stolen\r\nContent-Length: 9\r\n\r\n"
    )
    for at in range(0, len(sent), step):
        await stranger.says(sent[at : at + step])
        await asyncio.sleep(0)
    assert (await stranger.hears())[0] == 200
    await stranger.says(GET)
    assert (await stranger.hears())[0] == 200
    assert app.bodies == [b"abc", b""]
    assert not any(b"authorization" in dict(scope["headers"]) for scope in app.scopes)


async def test_a_problem_answers_what_is_no_request(room: tuple[App, Meet]) -> None:
    app, meet = room
    for said, expected in (
        (b"\x16\x03\x01\x02\x00\r\n\r\n", (400, "bad_request")),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", (400, "bad_request")),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", (501, "not_implemented")),
        (b"GET /x HTTP/3.0\r\nHost: a\r\n\r\n", (505, "version_not_supported")),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (414, "uri_too_long")),
        (b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 100 + b"\r\n", (431, "head_too_large")),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", (431, "head_too_large")),
    ):
        stranger = await meet()
        await stranger.says(said)
        assert await stranger.problem() == expected
    assert app.scopes == []


async def test_a_head_without_end_is_refused_while_it_comes(room: tuple[App, Meet]) -> None:
    _, meet = room
    stranger = await meet()

    async def endless() -> None:
        await stranger.says(b"GET /x HTTP/1.1\r\nHost: a\r\n")
        while True:
            await stranger.says(b"a:\r\n" * 10_000)

    sending = asyncio.create_task(endless())
    status, _, body = await stranger.hears()
    assert (status, json.loads(body)["code"]) == (431, "head_too_large")
    with pytest.raises(ConnectionError):
        await sending


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"", None),
        (b"GET /x HTT", (408, "request_timeout")),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nX-A", (408, "request_timeout")),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", (408, "request_timeout")),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", (408, "request_timeout")),
    ],
)
async def test_half_of_something_is_ended_in_time(said: bytes, expected: tuple[int, str] | None) -> None:
    async with met(head_seconds=0.3, body_seconds=0.3) as (_, meet):
        stranger = await meet()
        await stranger.says(said)
        if expected is None:
            await stranger.ended()
        else:
            assert await stranger.problem() == expected


async def test_a_head_that_trickles_is_not_waited_for() -> None:
    async with met(head_seconds=0.5) as (_, meet):
        stranger = await meet()

        async def trickles() -> None:
            for byte in GET * 1000:
                await stranger.says(bytes([byte]))
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickles())
        assert await stranger.problem() == (408, "request_timeout")
        trickling.cancel()


async def test_an_idle_connection_is_kept_for_its_time_and_then_closed() -> None:
    async with met(idle_seconds=0.5, head_seconds=20) as (_, meet):
        stranger = await meet()
        for _ in range(2):
            await stranger.says(GET)
            assert (await stranger.hears())[0] == 200
        await stranger.ended()


async def test_the_second_head_has_its_own_time() -> None:
    async with met(head_seconds=0.3, idle_seconds=60) as (_, meet):
        stranger = await meet()
        await stranger.says(GET)
        assert (await stranger.hears())[0] == 200
        await stranger.says(b"GET /x")
        assert await stranger.problem() == (408, "request_timeout")


async def test_a_streamed_address_bounds_its_body_itself() -> None:
    async with met(body_seconds=0.2, streamed=b"/x") as (app, meet):
        stranger = await meet()
        await stranger.says(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await asyncio.sleep(0.5)  # longer than another body may take
        await stranger.says(b"def")
        assert (await stranger.hears())[0] == 200
        assert app.bodies == [b"abcdef"]


async def test_a_connection_too_many_is_told_so() -> None:
    async with met(connections=2) as (_, meet):
        kept = [await meet() for _ in range(2)]
        for stranger in kept:
            await stranger.says(GET)
            assert (await stranger.hears())[0] == 200
        assert await (await meet()).problem() == (503, "too_many_connections")
        kept[0].writer.close()
        await kept[0].writer.wait_closed()
        async with asyncio.timeout(20):
            while True:
                stranger = await meet()
                await stranger.says(GET)
                if (await stranger.hears())[0] == 200:
                    return
                stranger.writer.close()
                await asyncio.sleep(0.02)


async def test_a_body_that_nobody_reads_is_dropped_and_the_connection_goes_on(room: tuple[App, Meet]) -> None:
    _, meet = room
    stranger = await meet()
    await stranger.says(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
    assert (await stranger.hears())[0] == 200
    await stranger.says(b"x" * 500_000 + GET)
    assert (await stranger.hears())[0] == 200


async def test_who_does_not_take_the_answer_is_cut_off() -> None:
    async with met(body_seconds=1) as (_, meet):
        stranger = await meet()
        await stranger.says(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(5)  # longer than an answer may stand still
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await stranger.hears()
        stranger = await meet()
        await stranger.says(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len((await stranger.hears())[2]) == 40_000_000


async def test_an_application_is_told_that_whoever_asked_left(room: tuple[App, Meet]) -> None:
    app, meet = room
    stranger = await meet()
    await stranger.says(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    stranger.writer.close()
    async with asyncio.timeout(20):
        while not app.ended:
            await asyncio.sleep(0.01)


async def test_what_fails_is_a_problem_before_the_answer_and_broken_off_within_it(room: tuple[App, Meet]) -> None:
    _, meet = room
    stranger = await meet()
    await stranger.says(b"GET /raises HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await stranger.problem() == (500, "internal")
    stranger = await meet()
    await stranger.says(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await stranger.hears()


async def test_answers_are_framed_for_who_asked(room: tuple[App, Meet]) -> None:
    _, meet = room
    stranger = await meet()
    await stranger.says(b"GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n")
    status, headers, body = await stranger.hears()
    assert (status, headers["transfer-encoding"], body) == (200, "chunked", b"yes")
    await stranger.says(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(20):
        assert b"content-length: 3" in await stranger.reader.readuntil(b"\r\n\r\n")
    await stranger.says(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await stranger.hears())[1]["connection"] == "close"
    await stranger.ended()
    stranger = await meet()
    await stranger.says(b"GET /chunks HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(20):
        whole = await stranger.reader.read()
    assert b"transfer-encoding" not in whole.lower()
    assert whole.endswith(b"\r\n\r\nyes")


@pytest.mark.parametrize(
    "field",
    [
        (b"", b"1"),
        (b"a b", b"1"),
        (b"a:", b"1"),
        (b"a\r\nb", b"1"),
        (b"a\xff", b"1"),
        (b"a", b"1\r\nb: 2"),
        (b"a", b"1\nb: 2"),
        (b"a", b"1\rb: 2"),
        (b"a", b"1\0"),
    ],
    ids=repr,
)
def test_a_field_that_would_be_read_as_something_else_is_not_sent(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(RuntimeError):
        head_of(200, [(b"content-type", b"text/plain"), field, (b"x", b"y")])


def test_a_head_may_have_no_field_and_a_status_without_a_phrase() -> None:
    assert head_of(204, []) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert head_of(299, [(b"a", b"b")]) == b"HTTP/1.1 299 \r\na: b\r\n\r\n"


async def test_a_body_is_asked_for_where_its_sender_waits_to_be(room: tuple[App, Meet]) -> None:
    _, meet = room
    stranger = await meet()
    await stranger.says(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    async with asyncio.timeout(20):
        assert await stranger.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await stranger.says(b"abc")
    assert (await stranger.hears())[0] == 200
    # and not where it is refused unread
    stranger = await meet()
    await stranger.says(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert (await stranger.hears())[0] == 200


async def test_bounds_are_settable() -> None:
    async with met(head=Bounds(size=200, fields=3)) as (_, meet):
        stranger = await meet()
        await stranger.says(b"GET /x HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 300 + b"\r\n\r\n")
        assert await stranger.problem() == (431, "head_too_large")
        stranger = await meet()
        await stranger.says(b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 3 + b"\r\n")
        assert await stranger.problem() == (431, "head_too_large")
