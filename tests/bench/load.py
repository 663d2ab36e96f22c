"""A load generator in a process of its own: requests in turn over keep-alive connections, closed loop."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import uvloop

from tests.bench import cpu


@dataclass(frozen=True)
class Measured:
    """Requests per second, latencies in milliseconds; ``failed`` counts answers other than 2xx and lost connections.

    ``cpu_us`` is the CPU of whoever answered, in microseconds for each answer; None where nobody was looked at.
    ``answers`` is how many there were.
    """

    rate: float
    p50: float
    p99: float
    failed: int = 0
    cpu_us: float | None = None
    answers: int = 0

    @classmethod
    def of(cls, latencies: list[float], seconds: float, failed: int = 0, cpu_seconds: float | None = None) -> Measured:
        """From the latencies (in milliseconds) of all that was answered within ``seconds``; RuntimeError where none."""
        if not latencies:
            raise RuntimeError(f"no answer came within {seconds:.1f} seconds: nothing was measured")
        latencies = sorted(latencies)
        return cls(
            rate=len(latencies) / seconds,
            p50=latencies[len(latencies) // 2],
            p99=latencies[int(len(latencies) * 0.99)],
            failed=failed,
            cpu_us=None if cpu_seconds is None else cpu_seconds / len(latencies) * 1_000_000,
            answers=len(latencies),
        )

    @classmethod
    def printed(cls, output: str) -> Measured:
        """What a process measured: its last line; whatever it logged comes before that."""
        return cls(**json.loads(output.splitlines()[-1]))


def run(
    ports: int | Sequence[int],
    requests: bytes | Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    pids: Sequence[int] = (),
) -> Measured:
    """Send ``requests`` in turn to 127.0.0.1 for ``seconds`` (after a warm-up of one); connections share the ports.

    ``pids`` are the processes whose CPU is looked at, and that of all that they started.
    """
    return _elsewhere(ports, requests, connections, seconds, pids)


def walk(
    ports: int | Sequence[int],
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float | None = None,
    pids: Sequence[int] = (),
) -> Measured:
    """Send each of ``requests`` once, for ``seconds`` at most, else however long that takes; nothing warms up."""
    return _elsewhere(ports, requests, connections, seconds, pids, once=True)


def _elsewhere(
    ports: int | Sequence[int],
    requests: bytes | Sequence[bytes],
    connections: int,
    seconds: float | None,
    pids: Sequence[int],
    *,
    once: bool = False,
) -> Measured:
    wanted = [requests] if isinstance(requests, bytes) else requests
    settings = {
        "ports": [ports] if isinstance(ports, int) else list(ports),
        "connections": connections,
        "seconds": seconds,
        "pids": list(pids),
        "once": once,
        "requests": [request.decode("latin-1") for request in wanted],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        input=json.dumps(settings),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured.printed(done.stdout)


def http(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The bytes of one HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as an answer is whole; closes where there is no next one."""

    def __init__(self, requests: Iterator[bytes], times: list[tuple[float, float, bool]]) -> None:
        self._requests = requests
        self._times = times
        self._buffer = b""
        self._sent = 0.0
        self.lost = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.lost = not self.done.done()
        self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._end()
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or not _whole(head, body):
            return
        now = time.perf_counter()
        self._times.append((now, now - self._sent, head[9:10] == b"2"))
        self._buffer = b""
        self._send()


def _whole(head: bytes, body: bytes) -> bool:
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    if at >= 0:
        return len(body) >= int(lowered[at + 15 :].split(b"\r\n", 1)[0])
    return body.endswith(b"0\r\n\r\n")


async def _generate(
    ports: list[int], connections: int, seconds: float | None, pids: list[int], requests: list[str], once: bool
) -> Measured:
    times: list[tuple[float, float, bool]] = []
    loop = asyncio.get_running_loop()
    encoded = [request.encode("latin-1") for request in requests]
    turns = iter(encoded) if once else itertools.cycle(encoded)
    begun, used = time.perf_counter(), _cpu_seconds(pids)
    opened = [
        await loop.create_connection(lambda: _Connection(turns, times), "127.0.0.1", ports[number % len(ports)])
        for number in range(connections)
    ]
    if once:
        await asyncio.wait([connection.done for _, connection in opened], timeout=seconds)
    else:
        await asyncio.sleep(1)
        begun, used = time.perf_counter(), _cpu_seconds(pids)
        await asyncio.sleep(seconds or 0)
    ended, used = time.perf_counter(), _cpu_seconds(pids) - used
    lost = sum(connection.lost for _, connection in opened)
    for transport, _ in opened:
        transport.abort()
    counted = [(latency, good) for at, latency, good in times if begun <= at <= ended]
    failed = lost + sum(not good for _, good in counted)
    latencies = [latency * 1000 for latency, _ in counted]
    return Measured.of(latencies, ended - begun, failed, used if pids else None)


def _cpu_seconds(pids: list[int]) -> float:
    return cpu.seconds(pids) if pids else 0.0


def main() -> None:
    """Read settings from standard input, print what was measured."""
    print(json.dumps(vars(uvloop.run(_generate(**json.loads(sys.stdin.read()))))))


if __name__ == "__main__":
    main()
