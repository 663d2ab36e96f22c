"""What the edge adds to an answer, in process, beside one plain write of a line as long, in interleaved rounds.

CPU time in microseconds for each answer, medians; log lines go to a file:

- ``edge_cpu_us``: the request's log line and its metrics, the difference that they make;
- ``edge_silent_cpu_us``: all else that the edge does, where nothing is logged or counted;
- ``edge_write_cpu_us``: the floor, the line's bytes to the same file by ``os.write``;
- ``edge_vs_write``: how many times as much as that floor log line and metrics take.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import redirect_stderr
from pathlib import Path

from starlette.types import Message, Receive, Scope, Send

from broker.base.logs import configure
from broker.web.metrics import Metrics
from broker.web.middleware import Edge
from tests.bench.rounds import Figure, Spread

ANSWERS = 5_000
ROUNDS = 9
_SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/v1/leases",
    "client": ("198.51.100.7", 40_000),
    "headers": [(b"host", b"broker.example"), (b"content-length", b"2")],
    "direct": "/v1/leases",
    "established": True,
}
_ANSWER: tuple[Message, Message] = (
    {"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"application/json")]},
    {"type": "http.response.body", "body": b"{}"},
)


class _Uncounted(Metrics):
    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        pass


def measure(directory: Path, *, answers: int = ANSWERS, rounds: int = ROUNDS) -> dict[str, Figure]:
    """The named figures."""
    log = directory / "log"
    with log.open("w", buffering=1) as file:
        with redirect_stderr(file):
            ways = {"silent": _edge("warning", _Uncounted()), "whole": _edge("info", Metrics())}
            asyncio.run(_in_turn(ways, answers=1, rounds=1))
            ways["write"] = _writing(file.fileno(), log.read_bytes())
            found = asyncio.run(_in_turn(ways, answers=answers, rounds=rounds))
        configure("warning")
    return figures(found)


def figures(found: Mapping[str, list[float]]) -> dict[str, Figure]:
    """From the microseconds of each round: log line and metrics are compared with what was taken in the same round."""
    added = [whole - silent for whole, silent in zip(found["whole"], found["silent"], strict=True)]
    return {
        "edge_cpu_us": Spread.of(added),
        "edge_silent_cpu_us": Spread.of(found["silent"]),
        "edge_write_cpu_us": Spread.of(found["write"]),
        "edge_vs_write": Spread.of(each / write for each, write in zip(added, found["write"], strict=True)),
    }


async def _in_turn(
    ways: Mapping[str, Callable[[], Awaitable[None]]], *, answers: int, rounds: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.thread_time()
            for _ in range(answers):
                await way()
            found[name].append((time.thread_time() - started) * 1e6 / answers)
    return found


def _edge(level: str, metrics: Metrics) -> Callable[[], Awaitable[None]]:
    configure(level)
    edge = Edge(_answer, metrics, closed=lambda: None, hsts=True, refusals=1)
    return lambda: edge(dict(_SCOPE), _receive, _send)


def _writing(file: int, line: bytes) -> Callable[[], Awaitable[None]]:
    async def write() -> None:
        os.write(file, line)

    return write


async def _answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    for message in _ANSWER:
        await send(dict(message))


async def _receive() -> Message:
    return {"type": "http.request", "body": b"{}", "more_body": False}


async def _send(_message: Message) -> None:
    pass
