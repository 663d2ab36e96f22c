"""Small ASGI applications under uvicorn, in processes of their own, that the broker is compared with.

- ``answer``: about 1 kB of JSON, whatever is asked;
- ``forward_aiohttp``, ``forward_wire``: the call as it is to an upstream and its answer back, by aiohttp or in the way
  that the broker sends.

Each is served on ``httptools``, as uvicorn comes, or on ``wire``, the broker's own protocol; always on uvloop.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal

import aiohttp
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.base.outbound import Outbound
from broker.wire.framing import Field
from broker.wire.server import Connection
from tests.bench.upstream import FACILITIES
from tests.support import processes

App = Literal["answer", "forward_aiohttp", "forward_wire"]
On = Literal["httptools", "wire"]

Answered = tuple[int, list[Field], AsyncIterator[bytes]]
"""Status, fields and body."""

Call = Callable[[str, str, list[tuple[str, str]]], AbstractAsyncContextManager[Answered]]
"""Sends a method, a URL and fields upstream."""

_OF_ONE_HOP = frozenset({b"connection", b"host", b"keep-alive", b"transfer-encoding"})


@contextmanager
def running(directory: Path, app: App, on: On = "httptools", upstream: int = 0) -> Iterator[tuple[int, int]]:
    """The port and the process of one; ``upstream`` is the local port to forward to."""
    directory.mkdir(parents=True)
    port = processes.free_port()
    arguments = [sys.executable, "-m", "tests.bench.asgi", app, on, str(port), str(upstream)]
    with processes.running(arguments, port=port, log=directory / "asgi.log") as process:
        yield port, process.pid


def _answering() -> ASGIApp:
    body = json.dumps(FACILITIES).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return answer


def _forwarding(base: str, call: Call) -> ASGIApp:
    """Passes on calls without a body."""

    async def forward(scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(name.decode(), value.decode()) for name, value in _passed(scope["headers"])]
        async with call(scope["method"], base + scope["raw_path"].decode(), headers) as (status, fields, body):
            await send({"type": "http.response.start", "status": status, "headers": list(_passed(fields))})
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    return forward


def _passed(fields: Iterable[Field]) -> Iterator[Field]:
    return (field for field in fields if field[0].lower() not in _OF_ONE_HOP)


def _by_aiohttp() -> Call:
    kept: list[aiohttp.ClientSession] = []  # made within the event loop

    @asynccontextmanager
    async def call(method: str, url: str, headers: list[tuple[str, str]]) -> AsyncIterator[Answered]:
        if not kept:
            connector = aiohttp.TCPConnector(limit=0)
            kept.append(
                aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
            )
        async with kept[0].request(method, url, headers=headers, allow_redirects=False) as answer:
            yield answer.status, list(answer.raw_headers), answer.content.iter_any()

    return call


def _by_wire() -> Call:
    outbound = Outbound()

    @asynccontextmanager
    async def call(method: str, url: str, headers: list[tuple[str, str]]) -> AsyncIterator[Answered]:
        async with outbound.unlimited(method, url, headers=headers, private=True) as answer:
            fields = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
            yield answer.status, fields, answer.chunks()

    return call


def _app(name: str, base: str) -> ASGIApp:
    if name == "answer":
        return _answering()
    return _forwarding(base, _by_aiohttp() if name == "forward_aiohttp" else _by_wire())


def main() -> None:
    """Serve what the command line names: the application, on what, its port and the upstream's."""
    name, on, port, upstream = sys.argv[1:]
    uvicorn.run(
        _app(name, f"http://127.0.0.1:{upstream}"),
        host="127.0.0.1",
        port=int(port),
        http=Connection if on == "wire" else "httptools",
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
