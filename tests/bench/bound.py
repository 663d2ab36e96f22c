"""What a proof of a key costs: proxied calls under a bound lease beside the same calls under an unbound one.

Both go to one broker, in turn, on SQLite and on PostgreSQL.  Each bound call has a proof of its own, made beforehand:
what signing costs is the client's.  Figures, where DATABASE is ``sqlite`` or ``postgres``:

- ``bound_DATABASE_added_p50_us``: at one connection, what the answer waits longer;
- ``bound_DATABASE_added_cpu_us``: CPU of the broker for each call more, at 32 connections, without the database's;
- and the figures of each of the two by itself.

A proof that was sent twice is refused, and a refusal fails the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from broker.client.client import Client
from tests.bench import broker, upstream
from tests.bench.databases import databases
from tests.bench.load import Measured, http, run
from tests.bench.rounds import Figure, Rounds, Spread, told, turned

SECONDS = 2.0
ROUNDS = 5
CONNECTIONS = (1, 32)
# More than are answered in a round and its warm-up of a second.
_MOST_PER_S = 4_000


@contextmanager
def _served(directory: Path) -> Iterator[dict[str, broker.Served]]:
    with ExitStack() as stack:
        answering = stack.enter_context(upstream.answering(directory / "upstream"))
        (postgres,) = stack.enter_context(databases(directory / "postgres", ["bound"]))
        yield {
            name: stack.enter_context(
                broker.running(directory / name, f"http://127.0.0.1:{answering}", database_url=database_url)
            )
            for name, database_url in (("sqlite", None), ("postgres", postgres))
        }


def _requests(served: broker.Served, client: Client, *, bound: bool, count: int) -> list[bytes]:
    """One request for each call, below a lease of this moment."""
    lease = client.lease("acme", "raptor-comply", ttl=600, bound=bound)
    url = f"{lease.proxy_url}/facilities"
    path = url.partition(f":{served.port}")[2]
    opened = {"Authorization": f"Bearer {lease.token}"}
    if not bound:
        return [http("GET", path, opened)]
    return [http("GET", path, {**opened, "DPoP": client.proof("GET", url, lease.token)}) for _ in range(count)]


def measure(directory: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> Mapping[str, Figure]:
    """The named figures."""
    found: dict[str, Rounds] = {}
    with _served(directory) as running:
        for name, served in running.items():
            with Client(served.job) as client:
                for number in range(-1, rounds):  # the first one warms up
                    for connections in CONNECTIONS:
                        for kind in turned(["bound", "unbound"], number % 2):
                            count = int(_MOST_PER_S * (seconds + 1))
                            sent = _requests(served, client, bound=kind == "bound", count=count)
                            each = run(served.port, sent, connections=connections, seconds=seconds, pids=[served.pid])
                            if number >= 0:
                                found.setdefault(f"{kind}_{name}_{connections}", []).append(each)
    return figures(found)


def figures(rounds: Mapping[str, Rounds]) -> dict[str, Figure]:
    """The named figures."""
    named: dict[str, Figure] = {}
    for database in ("sqlite", "postgres"):
        pairs = {
            connections: list(
                zip(rounds[f"bound_{database}_{connections}"], rounds[f"unbound_{database}_{connections}"], strict=True)
            )
            for connections in CONNECTIONS
        }
        named[f"bound_{database}_added_p50_us"] = Spread.of(
            (ours.p50 - theirs.p50) * 1_000 for ours, theirs in pairs[1]
        )
        named[f"bound_{database}_added_cpu_us"] = Spread.of(_cpu(ours) - _cpu(theirs) for ours, theirs in pairs[32])
    for name, each in rounds.items():
        named |= told(name, each)
    return named


def _cpu(measured: Measured) -> float:
    return measured.cpu_us or 0.0
