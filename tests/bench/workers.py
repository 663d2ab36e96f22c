"""Proxied calls by ``broker serve`` with one worker process and with two, on the embedded SQLite file.

On PostgreSQL it is the proxy's own benchmark that compares them.  Figures, at 32 connections, in interleaved rounds:
``workers_sqlite_two_vs_one``, the ratio of rates, and of ``workers_sqlite_one`` and ``workers_sqlite_two`` the rate,
latencies and the CPU of all processes for each call.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.bench import broker, proxy, upstream
from tests.bench.load import http
from tests.bench.rounds import Contender, Figure, Rounds, interleaved, rate_vs, told

CONNECTIONS = 32
SECONDS = 4.0
ROUNDS = 5
_WORKERS = {"one": 1, "two": 2}


def measure(directory: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Rounds]:
    """``workers_sqlite_one`` and ``workers_sqlite_two``, the rounds of each."""
    with ExitStack() as stack:
        answering = stack.enter_context(upstream.answering(directory / "upstream"))
        running = {}
        for name, workers in _WORKERS.items():
            served = stack.enter_context(
                broker.running(directory / name, f"http://127.0.0.1:{answering}", workers=workers)
            )
            call = http("GET", proxy.PROXIED, {"Authorization": f"Bearer {served.lease_token}"})
            running[f"workers_sqlite_{name}"] = Contender(served.port, call, [served.pid])
        return interleaved(running, rounds=rounds, connections=CONNECTIONS, seconds=seconds)


def figures(rounds: dict[str, Rounds]) -> dict[str, Figure]:
    """The named figures."""
    named: dict[str, Figure] = {
        "workers_sqlite_two_vs_one": rate_vs(rounds["workers_sqlite_two"], rounds["workers_sqlite_one"])
    }
    for name, each in rounds.items():
        named |= told(name, each)
    return named
