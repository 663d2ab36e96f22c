"""Proxied calls beside the same calls straight to the upstream and through nginx with a static header.

Contenders, each at 1, 32 and 128 connections, in interleaved rounds of one run:

- ``direct``: the upstream itself, about 1 kB of JSON (nginx, or ``tests.bench.upstream`` where nginx is missing);
- ``nginx``: one worker process that injects a static key and keeps connections to the upstream;
- ``proxy``: ``broker serve`` on its embedded SQLite, every use on the record;
- ``proxy_postgres``: the same on PostgreSQL, and ``proxy_two_workers`` with ``--workers 2`` there.

Figures: ``CONTENDER_CONNECTIONS_per_s``, ``…_p50_ms`` and ``…_p99_ms``; ``commit_…``, the group commit itself at one
caller, without HTTP; and of these

- ``proxy_vs_nginx``: rate at 32 connections, one worker each;
- ``proxy_two_workers_vs_one``: the same, two workers to one, both on PostgreSQL;
- ``proxy_added_p50_ms``: what the proxy adds at one connection beside the upstream and the commit: ``proxy_1_p50_ms``
  less ``direct_1_p50_ms`` less ``commit_p50_ms``.

All of it shares one machine: load generator, contender, upstream and PostgreSQL.  On two cores, therefore, two workers
can't be twice one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import broker, commit, nginx, upstream
from tests.bench.load import Measured, http, middle, run
from tests.support.databases import ROLE, postgres_server

CONNECTIONS = (1, 32, 128)
SECONDS = 3.0
ROUNDS = 3
PROXIED = "/proxy/acme/raptor-comply/facilities"

Contender = tuple[int, bytes]
"""A port and the request that is sent there."""


@contextmanager
def contenders(directory: Path) -> Iterator[dict[str, Contender]]:
    """Each of them, running."""
    key = {"X-API-Key": broker.KEY}
    with ExitStack() as stack:
        has_nginx = nginx.available()
        if has_nginx:
            answering = stack.enter_context(nginx.answering(directory / "upstream", json.dumps(upstream.FACILITIES)))
        else:
            answering = stack.enter_context(upstream.running(directory / "upstream"))
        running = {"direct": (answering, http("GET", "/facilities", key))}
        if has_nginx:
            peer = stack.enter_context(nginx.proxying(directory / "nginx", answering, broker.KEY))
            running["nginx"] = (peer, http("GET", "/facilities", {}))
        one, two = stack.enter_context(databases(directory / "postgres", ["one", "two"]))
        for name, database_url, workers in (
            ("proxy", None, 1),
            ("proxy_postgres", one, 1),
            ("proxy_two_workers", two, 2),
        ):
            served = stack.enter_context(
                broker.running(
                    directory / name, f"http://127.0.0.1:{answering}", database_url=database_url, workers=workers
                )
            )
            running[name] = (served.port, http("GET", PROXIED, {"Authorization": f"Bearer {served.lease_token}"}))
        yield running


@contextmanager
def databases(directory: Path, names: Sequence[str]) -> Iterator[list[str]]:
    """The addresses of empty ones on a PostgreSQL of their own."""
    with postgres_server(directory) as server:
        made = [f"CREATE DATABASE {name} OWNER {ROLE}" for name in names]
        asyncio.run(server.admin(f"CREATE ROLE {ROLE} LOGIN", *made))
        yield [server.url(name) for name in names]


def measure(directory: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Measured]:
    """``CONTENDER_CONNECTIONS`` and ``commit``, each the round of median rate."""
    found: dict[str, list[Measured]] = {}
    with contenders(directory) as running:
        for port, request in running.values():
            run(port, request, connections=32, seconds=1)  # every worker has started and is warm
        for _ in range(rounds):
            found.setdefault("commit", []).append(commit.run(directory / "commit", seconds=seconds))
            for connections in CONNECTIONS:
                for name, (port, request) in running.items():
                    measured = run(port, request, connections=connections, seconds=seconds)
                    found.setdefault(f"{name}_{connections}", []).append(measured)
    return {name: middle(each) for name, each in found.items()}


def figures(measured: dict[str, Measured]) -> dict[str, float]:
    """The named figures; those of nginx only where it was measured."""
    named: dict[str, float] = {}
    if "nginx_32" in measured:
        named["proxy_vs_nginx"] = measured["proxy_32"].rate / measured["nginx_32"].rate
    named["proxy_two_workers_vs_one"] = measured["proxy_two_workers_32"].rate / measured["proxy_postgres_32"].rate
    named["proxy_added_p50_ms"] = measured["proxy_1"].p50 - measured["direct_1"].p50 - measured["commit"].p50
    for name, each in measured.items():
        named |= {f"{name}_per_s": each.rate, f"{name}_p50_ms": each.p50, f"{name}_p99_ms": each.p99}
    return {name: round(value, 3) for name, value in named.items()}
