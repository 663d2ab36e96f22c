"""What may stand between a job and the broker: something that answers in its place, or changes what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

HTML = b"<html><body><h1>Sorry</h1></body></html>"
Change = Callable[[dict[str, Any]], Any]


def page(status: str, *fields: str) -> bytes:
    """A whole answer of somebody else: HTML."""
    return _whole(status, "text/html; charset=utf-8", HTML, *fields)


def json_page(status: str, body: dict[str, Any]) -> bytes:
    """The same in JSON, as gateways have it."""
    return _whole(status, "application/json", json.dumps(body).encode())


def _whole(status: str, kind: str, body: bytes, *fields: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body


@dataclass
class Proxy:
    """An HTTP proxy (RFC 9112 §3.2.2): ``asked`` are its requests' first lines, ``says`` what it answers by itself."""

    port: int
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    says: bytes = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        with suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            self.asked.append(head.decode().split("\r\n", 1)[0])
            writer.write(self.says or await self._passed_on(head, reader))
            await writer.drain()
        writer.close()

    async def _passed_on(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        method, target, rest = head.split(b" ", 2)
        url = urlsplit(target.decode())
        lines = {name.lower(): value for name, _, value in (line.partition(b": ") for line in rest.split(b"\r\n"))}
        body = await reader.readexactly(int(lines.get(b"content-length", 0)))
        upstream, sends = await asyncio.open_connection(url.hostname, url.port)
        query = f"?{url.query}" if url.query else ""
        kept = [line for line in rest.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
        line = method + b" " + f"{url.path}{query}".encode() + b" "
        sends.write(line + b"\r\n".join([*kept, b"Connection: close", b"", b""]) + body)
        answer = await upstream.read()
        sends.close()
        return answer


@asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    """A proxy that passes everything on until it is told what to say."""
    proxy = Proxy(0)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy


@dataclass
class Between:
    """An ASGI application before the broker's; it changes good JSON answers of the paths that end so."""

    edge: Any
    changes: dict[str, Change] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        change = next((made for end, made in self.changes.items() if scope.get("path", "").endswith(end)), None)
        if change is None:
            await self.edge(scope, receive, send)
            return
        start: dict[str, Any] = {}
        body = b""

        async def keep(message: dict[str, Any]) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                changed = json.dumps(change(json.loads(body))).encode()
                headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(changed)).encode())]})
                await send({"type": "http.response.body", "body": changed})

        await self.edge(scope, receive, keep)
