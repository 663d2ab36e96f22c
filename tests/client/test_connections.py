"""A connection that a server lets go of while it idles never makes a call fail, and no call is made twice for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata

import httpx2
import pytest

from broker.client import connecting
from broker.client.client import Client
from broker.client.identity import Identity, generate

TOKEN = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 600}


@dataclass
class Forgetful:
    """A server that keeps connections by its word, and drops what comes over one for the second time, unanswered.

    That is how one looks whose idle time ends while a call is on its way.
    """

    url: str = ""
    answered: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            first = await _request(reader)
            self.answered.append(first)
            body = json.dumps(TOKEN if "token" in first else {"items": []}).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            self.dropped.append(await _request(reader))
        writer.close()


async def _request(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = dict(line.lower().split(": ", 1) for line in head.strip().split("\r\n")[1:])
    await reader.readexactly(int(fields.get("content-length", 0)))
    return head.split("\r\n", 1)[0]


@asynccontextmanager
async def forgetful() -> AsyncIterator[Forgetful]:
    made = Forgetful()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


async def test_calls_of_the_broker_never_meet_a_connection_that_was_let_go_of() -> None:
    async with forgetful() as server:
        with Client(Identity(server.url, "wkl_1", generate())) as client:
            for _ in range(5):
                assert await asyncio.to_thread(client.leases) == []
        assert (
            server.answered
            == ["POST /oauth/token HTTP/1.1"] + ["GET /v1/leases?limit=500&cursor=&order=oldest HTTP/1.1"] * 5
        )
    assert server.dropped == []


async def test_proxied_calls_use_no_connection_that_idled_for_longer_than_the_shortest_lived_front() -> None:
    async with forgetful() as server:
        with httpx2.Client(base_url=server.url, transport=connecting.transport(None)) as http:
            for _ in range(3):
                assert (await asyncio.to_thread(http.post, "/things")).status_code == 200
                await asyncio.sleep(1.3)  # less than any server's, and more than the client's
        async with httpx2.AsyncClient(base_url=server.url, transport=connecting.async_transport(None)) as client:
            for _ in range(2):
                assert (await client.post("/things")).status_code == 200
                await asyncio.sleep(1.3)
        assert server.answered == ["POST /things HTTP/1.1"] * 5
    assert server.dropped == []


async def test_proxied_calls_in_a_row_share_a_connection() -> None:
    async with forgetful() as server:
        with (
            httpx2.Client(base_url=server.url, transport=connecting.transport(None)) as http,
            # the server's own answer to the second: none
            suppress(httpx2.RemoteProtocolError),
        ):
            await asyncio.to_thread(lambda: [http.get("/a"), http.post("/b")])
    # and what may have been received isn't sent again
    assert (server.answered, server.dropped) == (["GET /a HTTP/1.1"], ["POST /b HTTP/1.1"])


def test_the_record_can_tell_which_version_called() -> None:
    with connecting.caller(timeout=1) as http:
        assert http.headers["User-Agent"] == f"keybroker/{metadata.version('keybroker')}"


def test_files_that_nobody_installed_have_a_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with connecting.caller(timeout=1):  # the HTTP library looks its own version up, once
        pass

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with connecting.caller(timeout=1) as http:
        assert http.headers["User-Agent"] == "keybroker"
