"""The broker's two ends of the wire beside those of uvicorn and aiohttp, at 32 connections, in interleaved rounds.

- ``wire_bare``: about 1 kB of JSON by uvicorn as it comes, on httptools and uvloop: the floor of every ratio;
- ``wire_in``: the same application, with the broker's own protocol in uvicorn;
- ``wire_forward``: a call passed on as it is, by that protocol and as the broker sends;
- ``aiohttp_forward``: the same by uvicorn as it comes and aiohttp.

Figures: ``…_cpu_us`` and ``…_cpu_vs_bare``, medians of the rounds, with ``…_per_s``, ``…_p50_ms`` and ``…_p99_ms``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import asgi, upstream
from tests.bench.load import http
from tests.bench.rounds import Contender, Figure, Rounds, cpu_vs, interleaved, told

CONNECTIONS = 32
SECONDS = 3.0
ROUNDS = 5
_REQUEST = http("GET", "/facilities", {"Accept": "application/json"})


@contextmanager
def contenders(directory: Path) -> Iterator[dict[str, Contender]]:
    """Each of them, running."""
    with ExitStack() as stack:
        answering = stack.enter_context(upstream.answering(directory / "upstream"))

        def served(name: str, app: asgi.App, on: asgi.On) -> Contender:
            port, pid = stack.enter_context(asgi.running(directory / name, app, on, answering))
            return Contender(port, _REQUEST, [pid])

        yield {
            "wire_bare": served("bare", "answer", "httptools"),
            "wire_in": served("in", "answer", "wire"),
            "wire_forward": served("forward", "forward_wire", "wire"),
            "aiohttp_forward": served("aiohttp", "forward_aiohttp", "httptools"),
        }


def measure(directory: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Rounds]:
    """The rounds of each."""
    with contenders(directory) as running:
        return interleaved(running, rounds=rounds, connections=CONNECTIONS, seconds=seconds)


def figures(measured: dict[str, Rounds]) -> dict[str, Figure]:
    """The named figures."""
    named: dict[str, Figure] = {}
    for name, rounds in measured.items():
        named |= told(name, rounds)
        if name != "wire_bare":
            named[f"{name}_cpu_vs_bare"] = cpu_vs(rounds, measured["wire_bare"])
    return named
