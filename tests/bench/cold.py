"""Leases over subjects that were never asked for: nothing of them is in memory, whatever the number of organizations.

Brokers over 100, 10,000 and 1,000,000 organizations, on one kind of database, are walked through in interleaved
rounds: one lease of each organization at most, by 32 connections, for as many seconds as a round has.  Those that
belong to a walk are genuine in every way, the others fill the tables.  Of 100 organizations a round is a few dozen
leases at once: its figures are rough.

Figures, ``cold_lease_ORGANIZATIONS_DATABASE_…`` each: ``…_per_s``, ``…_p50_ms``, ``…_p99_ms``, and ``…_cpu_us`` of the
broker without the database server; ``…_walked``, how many leases all rounds were; ``…_memory_growth_mb``, by how much
these made the broker larger; and on PostgreSQL ``…_statements``, what the server is sent for each lease, one after the
other, each of them a round trip.  ``cold_lease_DATABASE_flat`` is the rate with the most organizations over that
with the fewest, in the same round.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.bench import broker, memory, population
from tests.bench.databases import create
from tests.bench.lease import sandbox
from tests.bench.load import Measured, walk
from tests.bench.rounds import Figure, Rounds, middle, rate_vs, told, turned
from tests.support.databases import Postgres, postgres_server

SIZES = (100, 10_000, 1_000_000)
CONNECTIONS = 32
SECONDS = 20.0
ROUNDS = 3
WALKED = 100_000
_SET_APART = 200
IDLE_S = 3.0
_HEARD_S = 0.5  # until all sessions have heard of a setting
_STATEMENT = re.compile(r"LOG:  (statement|execute [^:]*):")


class Subjects(NamedTuple):
    """The organizations of one broker that are asked for, none of them twice."""

    warm: Sequence[str]
    counted: Sequence[str]
    walks: Sequence[Sequence[str]]

    @classmethod
    def of(cls, slugs: Sequence[str], rounds: int) -> Subjects:
        """A tenth to warm up, a tenth to count statements over, but no more than 200 each; a part for each round."""
        apart = min(_SET_APART, len(slugs) // 10)
        rest = slugs[2 * apart :]
        part = len(rest) // rounds
        walks = [rest[number * part : (number + 1) * part] for number in range(rounds)]
        return cls(slugs[:apart], slugs[apart : 2 * apart], walks)


@dataclass(frozen=True, slots=True)
class Cold:
    """A broker, and subjects that it was never asked for."""

    served: broker.Served
    subjects: Subjects

    def walk(self, slugs: Sequence[str], *, connections: int = CONNECTIONS, seconds: float | None = None) -> Measured:
        """One lease of each, within the time."""
        requests = population.leases(self.served, slugs)
        connections = min(connections, len(requests))
        return walk(self.served.port, requests, connections=connections, seconds=seconds, pids=[self.served.pid])

    def walk_apart(self) -> Measured:
        """One lease of each of those set apart, one after the other."""
        return self.walk(self.subjects.counted, connections=1)


def on_sqlite(directory: Path) -> dict[str, Figure]:
    """The figures of SQLite."""
    return on("sqlite", directory, dict.fromkeys(SIZES))


def on_postgres(directory: Path) -> dict[str, Figure]:
    """The figures of PostgreSQL."""
    with postgres_server(directory / "postgres") as server:
        urls = create(server, [f"n{size}" for size in SIZES])
        return on("postgres", directory / "brokers", dict(zip(SIZES, urls, strict=True)), server)


def on(
    kind: str,
    directory: Path,
    urls: Mapping[int, str | None],
    server: Postgres | None = None,
    *,
    seconds: float = SECONDS,
    rounds: int = ROUNDS,
) -> dict[str, Figure]:
    """The figures of one kind of database.

    Args:
        kind: its name in the figures.
        directory: of the brokers' state.
        urls: of the database for each number of organizations, None for a file in the broker's state.
        server: a PostgreSQL of whose log statements are counted.
        seconds: of a round at most.
        rounds: for each.
    """
    with sandbox() as (state, upstream), ExitStack() as stack:
        there = state.add_organization("acme")
        cold = {}
        for size, url in urls.items():
            home, key = directory / str(size), state.add_key(there)[1]
            served = stack.enter_context(broker.running(home, upstream, key, database_url=url))
            print(f"cold: making {size:,} organizations on {kind} …", flush=True)
            cold[f"cold_lease_{size}_{kind}"] = Cold(served, _populated(home, url, size, rounds))
        named = in_rounds(cold, kind, seconds=seconds, rounds=rounds)
        if server is not None:
            named |= {f"{name}_statements": statements_of_each(server, each.walk_apart) for name, each in cold.items()}
    return named


def _populated(home: Path, url: str | None, size: int, rounds: int) -> Subjects:
    slugs = population.drawn(size, WALKED)
    asyncio.run(population.populate(home, url, size))
    asyncio.run(population.authenticate(home, url, slugs))
    return Subjects.of(slugs, rounds)


def in_rounds(cold: Mapping[str, Cold], kind: str, *, seconds: float, rounds: int) -> dict[str, Figure]:
    """Each in turn, smallest first in ``cold``; the figures of one kind of database."""
    for each in cold.values():
        middle([each.walk(each.subjects.warm)])
    before = {name: memory.resident(each.served.pid) for name, each in cold.items()}
    found: dict[str, Rounds] = {name: [] for name in cold}
    for number in range(rounds):
        for name in turned(list(cold), number):
            each = cold[name]
            found[name].append(each.walk(each.subjects.walks[number], seconds=seconds))
    walked = list(found.values())
    named: dict[str, Figure] = {f"cold_lease_{kind}_flat": rate_vs(walked[-1], walked[0])}
    for name, each_round in found.items():
        named |= told(name, each_round)
        named[f"{name}_walked"] = sum(one.answers for one in each_round)
        grown = memory.resident(cold[name].served.pid) - before[name]
        named[f"{name}_memory_growth_mb"] = round(grown / 2**20, 1)
    return named


def statements_of_each(server: Postgres, ask: Callable[[], Measured]) -> float:
    """How many statements the server is sent for each answer, the COMMIT too, less what it is sent without any."""
    _log_statements(server, "all")
    first = _statements(server)
    time.sleep(IDLE_S)
    idle = (_statements(server) - first) / IDLE_S
    first = _statements(server)
    measured = middle([ask()])
    sent = _statements(server) - first - idle * measured.answers / measured.rate
    _log_statements(server, "none")
    return round(sent / measured.answers, 1)


def _log_statements(server: Postgres, which: str) -> None:
    asyncio.run(server.admin(f"ALTER SYSTEM SET log_statement = '{which}'", "SELECT pg_reload_conf()"))
    time.sleep(_HEARD_S)


def _statements(server: Postgres) -> int:
    with server.log.open(errors="replace") as lines:
        return sum(_STATEMENT.search(line) is not None for line in lines)
