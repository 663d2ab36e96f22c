"""An upstream in a process of its own: swallows what is sent to it, answers with as many bytes as it is asked for.

- ``GET /facilities``: about 1 kB of JSON, as the broker's key verification expects it;
- ``POST /upload``: the number of bytes that came, as JSON ``{"received": N}``;
- ``GET /download?bytes=N``: N bytes that don't compress.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tests.bench import nginx
from tests.support import processes

_CHUNK = 262_144
_VARIED = memoryview(random.Random(7).randbytes(16 * _CHUNK))
FACILITIES = [{"id": f"fac_{number:04d}", "name": f"Riverside Substation {number}"} for number in range(20)]


@contextmanager
def running(directory: Path, *, answers_in_ms: int = 0) -> Iterator[int]:
    """The port of one, which answers each call after so long."""
    directory.mkdir(parents=True)
    port = processes.free_port()
    arguments = [sys.executable, "-m", "tests.bench.upstream", str(port), str(answers_in_ms)]
    with processes.running(arguments, port=port, log=directory / "upstream.log"):
        yield port


@contextmanager
def answering(directory: Path) -> Iterator[int]:
    """The port of whatever answers with the same JSON at the least cost: nginx, or one of these where it is missing."""
    fastest = nginx.answering(directory, json.dumps(FACILITIES)) if nginx.available() else running(directory)
    with fastest as port:
        yield port


def varied(size: int) -> Iterator[memoryview]:
    """So many bytes, in pieces."""
    for sent in range(0, size, _CHUNK):
        at = sent % len(_VARIED)
        yield _VARIED[at : at + min(_CHUNK, size - sent)]


async def _facilities(_request: web.Request) -> web.Response:
    return web.json_response(FACILITIES)


async def _upload(request: web.Request) -> web.Response:
    received = 0
    async for chunk in request.content.iter_any():
        received += len(chunk)
    return web.json_response({"received": received})


async def _download(request: web.Request) -> web.StreamResponse:
    size = int(request.query["bytes"])
    response = web.StreamResponse(headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"})
    await response.prepare(request)
    for chunk in varied(size):
        await response.write(chunk)
    return response


def _late(seconds: float) -> Middleware:
    @web.middleware
    async def wait(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await handler(request)

    return wait


def main() -> None:
    """Serve on the port that the command line names, and answer after so many milliseconds."""
    app = web.Application(middlewares=[_late(int(sys.argv[2]) / 1000)])
    app.add_routes([web.get("/facilities", _facilities), web.post("/upload", _upload), web.get("/download", _download)])
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
