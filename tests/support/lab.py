"""An upstream that a test scripts.

It keeps requests byte for byte, and answers what it is told to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

KEY = "lab_" + "aB3/dE+6gH.9" * 4
PROVIDER = """
id = "{id}"
version = 1
title = "Lab"
docs = "https://docs.example.com"
[host]
base_url = "{url}/base"
private = true
[auth]
{auth}
[key]
label = "key"
pattern = '^lab_[A-Za-z0-9/+.]{{48}}$'
example = "lab_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
[verify]
path = "/facilities"
[identity]
path = "[].id"
[presets.read-only]
methods = ["GET"]
paths = ["/facilities", "/facilities/*"]
[retry]
cap_seconds = 60
[required_headers]
X-Lab-Version = "7"
[admin]
role = "Admin"
where = ["Open Settings."]
revoke = ["Open Settings."]
"""
AUTHS = {
    "lab": 'placement = "header"\nname = "X-Lab-Key"',
    "lab-query": 'placement = "query"\nname = "api_key"',
    "lab-basic": 'placement = "basic"\nusername = "{key}"\npassword = "x"',
}


@dataclass
class Seen:
    """One request as it came.

    ``left`` is set if the connection was closed before the answer was whole.
    """

    method: str
    target: bytes
    headers: list[tuple[str, str]]
    at: float
    body: bytes = b""
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name.lower()]

    @property
    def names(self) -> set[str]:
        return {name.lower() for name, _ in self.headers}


Script = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass
class Lab:
    """An upstream whose ``scripts`` answer by path (below the base path, without query).

    Everything else is 200 ``{"ok": true}``.
    """

    url: str = ""
    requests: list[Seen] = field(default_factory=list)
    scripts: dict[str, Script | bytes] = field(default_factory=dict)

    @property
    def calls(self) -> list[Seen]:
        """What came other than verifications."""
        return [seen for seen in self.requests if seen.target.partition(b"?")[0] != b"/base/facilities"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await _head(reader):
                await self._answer(_seen(head), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(seen)
        path = seen.target.partition(b"?")[0].decode().removeprefix("/base")
        default = b'[{"id": "lab-1"}, {"id": "lab-2"}]' if path == "/facilities" else b'{"ok": true}'
        script = self.scripts.get(path, answer(default, "Content-Type: application/json"))
        try:
            if isinstance(script, bytes):
                seen.body = b"".join([chunk async for chunk in body_of(seen, reader)])
                writer.write(script if seen.method != "HEAD" else script.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            else:
                await script(seen, reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            seen.left.set()
            raise


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _seen(head: bytes) -> Seen:
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Seen(method, target.encode("latin-1"), headers, time.monotonic())


async def body_of(seen: Seen, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The request's body as it comes."""
    if "chunked" in "".join(seen.values("transfer-encoding")):
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return
    left = int((seen.values("content-length") or ["0"])[0])
    while left:
        chunk = await reader.read(min(left, 65_536))
        if not chunk:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(chunk)
        yield chunk


@asynccontextmanager
async def lab_upstream(providers: Path) -> AsyncIterator[Lab]:
    """A lab, and a provider file for each placement of the key."""
    lab = Lab()
    server = await asyncio.start_server(lab.serve, "127.0.0.1", 0, limit=1 << 18)
    lab.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    providers.mkdir(parents=True, exist_ok=True)
    for name, auth in AUTHS.items():
        (providers / f"{name}.toml").write_text(
            PROVIDER.replace("{auth}", auth).format(id=name, url=lab.url, key="{key}")
        )
    try:
        yield lab
    finally:
        server.close()
