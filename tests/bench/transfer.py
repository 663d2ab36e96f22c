"""One large body there or back over a connection of its own, to whatever speaks for ``tests.bench.upstream``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse

from tests.bench.upstream import varied

_READ = 1_048_576
_SILENCE_S = 60


class Broken(Exception):
    """The transfer did not carry what it should have; nothing was measured."""


@dataclass(frozen=True)
class Way:
    """One way to the upstream: a local port, what comes before the upstream's path, and further headers."""

    port: int
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def upload(way: Way, size: int) -> float:
    """Send ``size`` bytes; bytes per second until the upstream's answer that it has them all."""
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    started = time.perf_counter()
    with _answer(way, "POST", "/upload", headers, varied(size)) as response:
        answer = json.loads(response.read())
    took = time.perf_counter() - started
    if answer != {"received": size}:
        raise Broken(f"{size} bytes were sent, the upstream says {answer}")
    return size / took


def download(way: Way, size: int) -> float:
    """Fetch ``size`` bytes; bytes per second until the last of them is here."""
    buffer, received = bytearray(_READ), 0
    started = time.perf_counter()
    with _answer(way, "GET", f"/download?bytes={size}", {}) as response:
        while count := response.readinto(buffer):
            received += count
    took = time.perf_counter() - started
    if received != size:
        raise Broken(f"{size} bytes were asked for, {received} came")
    return size / took


@contextmanager
def _answer(
    way: Way, method: str, path: str, headers: Mapping[str, str], body: Iterator[memoryview] | None = None
) -> Iterator[HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", way.port, timeout=_SILENCE_S)
    try:
        connection.request(method, way.prefix + path, body, {**way.headers, **headers})
        response = connection.getresponse()
        if response.status != 200:
            raise Broken(f"{method} {way.prefix}{path}: {response.status} {response.read(500)!r}")
        yield response
    finally:
        connection.close()
