"""Proxied calls beside the same calls straight to the upstream and through nginx with a static header.

Contenders, each at 1, 32 and 128 connections, in interleaved rounds of one run:

- ``bare``: about 1 kB of JSON by uvicorn alone, as it comes: the floor of CPU;
- ``direct``: the upstream itself, about 1 kB of JSON (nginx, or ``tests.bench.upstream`` where nginx is missing);
- ``nginx``: one worker process that injects a static key and keeps connections to the upstream;
- ``auth_request``: the same with a small application that nginx asks, and that puts every use into the PostgreSQL on
  which brokers are, too (``tests.bench.auth_request``): what people would pick in the proxy's place;
- ``proxy``: ``broker serve`` on its embedded SQLite, every use on the record;
- ``proxy_postgres``: the same on PostgreSQL, and ``proxy_two_workers`` with ``--workers 2`` there.

Figures: ``CONTENDER_CONNECTIONS_per_s``, ``…_p50_ms``, ``…_p99_ms`` and, but for the upstream, ``…_cpu_us``: CPU of all
its processes for each answer, without the database's; ``commit_…``, the record alone at one caller, without HTTP, on
SQLite (``tests.bench.record``); and of these

- ``proxy_vs_nginx``: rate at 32 connections, one worker each;
- ``proxy_vs_auth_request``, ``proxy_cpu_vs_auth_request``: the same, and CPU for each call, of ``proxy_postgres`` to
  nginx and the application together;
- ``proxy_two_workers_vs_one``: the same, two workers to one, both on PostgreSQL;
- ``proxy_added_p50_ms``: what the proxy adds at one connection beside the upstream and the commit: ``proxy_1_p50_ms``
  less ``direct_1_p50_ms`` less ``commit_p50_ms``;
- ``proxy_cpu_us``: CPU for each call at 32 connections, ``proxy_cpu_vs_bare`` and ``proxy_1_cpu_vs_bare``: its ratio to
  the floor's in the same round.  Rates move with the machine by half, these by a quarter.

All of it shares one machine: load generator, contender, upstream and PostgreSQL.  On two cores, therefore, two workers
can't be twice one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import asgi, auth_request, broker, nginx, record, upstream
from tests.bench.databases import databases
from tests.bench.load import http
from tests.bench.rounds import Contender, Figure, Rounds, cpu_us, cpu_vs, middle, rate_vs, told, turned, warm_up

CONNECTIONS = (1, 32, 128)
SECONDS = 3.0
ROUNDS = 3
PROXIED = "/proxy/acme/raptor-comply/facilities"
_TOKEN = "t" * 43


@contextmanager
def contenders(directory: Path) -> Iterator[dict[str, Contender]]:
    """Each of them, running."""
    key = {"X-API-Key": broker.KEY}
    with ExitStack() as stack:
        answering = stack.enter_context(upstream.answering(directory / "upstream"))
        bare, bare_pid = stack.enter_context(asgi.running(directory / "bare", "answer"))
        running = {
            "bare": Contender(bare, http("GET", "/facilities", {}), [bare_pid]),
            "direct": Contender(answering, http("GET", "/facilities", key)),
        }
        if nginx.installed():
            peer, pid = stack.enter_context(nginx.proxying(directory / "nginx", answering, broker.KEY))
            running["nginx"] = Contender(peer, http("GET", "/facilities", {}), [pid])
        one, two, others = stack.enter_context(databases(directory / "postgres", ["one", "two", "others"]))
        if nginx.installed():
            peer, pids = stack.enter_context(
                auth_request.running(directory / "auth_request", others, answering, _TOKEN, broker.KEY)
            )
            asking = http("GET", "/facilities", {"Authorization": f"Bearer {_TOKEN}"})
            running["auth_request"] = Contender(peer, asking, pids)
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
            call = http("GET", PROXIED, {"Authorization": f"Bearer {served.lease_token}"})
            running[name] = Contender(served.port, call, [served.pid])
        yield running


def measure(directory: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Rounds]:
    """``CONTENDER_CONNECTIONS`` and ``commit``, the rounds of each."""
    found: dict[str, Rounds] = {}
    own = record.sqlite(directory / "commit")
    with contenders(directory) as running:
        warm_up(running, connections=32)
        for number in range(rounds):
            found.setdefault("commit", []).append(record.run(own, callers=1, seconds=seconds))
            for connections in CONNECTIONS:
                for name in turned(list(running), number):
                    measured = running[name].run(connections=connections, seconds=seconds)
                    found.setdefault(f"{name}_{connections}", []).append(measured)
    return found


def figures(rounds: dict[str, Rounds]) -> dict[str, Figure]:
    """The named figures; those of nginx only where it was measured."""
    named: dict[str, Figure] = {}
    if "nginx_32" in rounds:
        named["proxy_vs_nginx"] = rate_vs(rounds["proxy_32"], rounds["nginx_32"])
        ours, theirs = rounds["proxy_postgres_32"], rounds["auth_request_32"]
        named["proxy_vs_auth_request"] = rate_vs(ours, theirs)
        named["proxy_cpu_vs_auth_request"] = cpu_vs(ours, theirs)
    named["proxy_two_workers_vs_one"] = rate_vs(rounds["proxy_two_workers_32"], rounds["proxy_postgres_32"])
    alone = [middle(rounds[name]).p50 for name in ("proxy_1", "direct_1", "commit")]
    named["proxy_added_p50_ms"] = round(alone[0] - alone[1] - alone[2], 3)
    named["proxy_cpu_us"] = cpu_us(rounds["proxy_32"])
    named["proxy_cpu_vs_bare"] = cpu_vs(rounds["proxy_32"], rounds["bare_32"])
    named["proxy_1_cpu_vs_bare"] = cpu_vs(rounds["proxy_1"], rounds["bare_1"])
    for name, each in rounds.items():
        named |= told(name, each)
    return named
