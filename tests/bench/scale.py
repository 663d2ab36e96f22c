"""Replicas on one PostgreSQL, and what a million organizations cost.

Figures: ``replicas_1_…`` and ``replicas_2_…`` are leases over one customer's key with one and two brokers;
``organizations_N_…`` are leases with N organizations in the database, over 100 of them drawn at random (``_warm``) and
over up to 25,000 (``_wide``).  What a broker remembers of an organization is good for a minute, so each wide round
begins at another place, and a minute after the last: of 10,000 and more its requests find nothing in memory.
``…_memory_mb`` is what the broker has in RAM after both and one lease of each that was drawn, which are more than it
remembers.  ``organizations_flat_warm`` and ``…_wide`` are the rates with a million over those with ten thousand,
``…_vs_100`` over those with a hundred (which fit in memory, so that the wide one is of none against all in memory).
``scale_openbao_read_…`` is OpenBao's audited read in the same run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

from tests.bench import broker, memory, openbao, population
from tests.bench.databases import databases
from tests.bench.lease import sandbox
from tests.bench.load import Measured, http, run, walk
from tests.bench.rounds import middle

SIZES = (100, 10_000, 1_000_000)
CONNECTIONS = 32
SECONDS = 3.0
ROUNDS = 3
WIDE = 25_000
FORGOTTEN_S = 61.0

Contender = tuple[Sequence[int], Sequence[bytes]]
"""Ports and the requests that are sent there."""


def measure(directory: Path) -> dict[str, float]:
    """The named figures."""
    with ExitStack() as stack:
        state, upstream = stack.enter_context(sandbox())
        bao = stack.enter_context(openbao.running(directory / "openbao"))
        read = http("GET", "/v1/secret/data/tenants/acme", {"X-Vault-Token": bao.token, "X-Vault-Request": "true"})
        names = ["replicas", *(f"n{size}" for size in SIZES)]
        urls = dict(zip(names, stack.enter_context(databases(directory / "pg", names)), strict=True))
        there = state.add_organization("acme")

        def served(name: str) -> broker.Served:
            home = directory / name
            home.mkdir()
            key = state.add_key(there)[1]
            return stack.enter_context(broker.running(home, upstream, key, database_url=urls[name]))

        one = served("replicas")
        second, _ = stack.enter_context(broker.replica(directory / "replicas", urls["replicas"], one.port))
        brokers = {size: served(f"n{size}") for size in SIZES}
        slugs = {size: population.drawn(size, WIDE) for size in SIZES}
        for size in SIZES:
            print(f"scale: making {size:,} organizations …", flush=True)
            asyncio.run(population.populate(directory / f"n{size}", urls[f"n{size}"], size))
            asyncio.run(population.authenticate(directory / f"n{size}", urls[f"n{size}"], slugs[size]))
        acme = population.leases(one, ["acme"])
        contenders: dict[str, Contender] = {
            "openbao_read": ([bao.port], [read]),
            "replicas_1": ([one.port], acme),
            "replicas_2": ([one.port, second], acme),
        }
        for size, each in brokers.items():
            wide = population.leases(each, slugs[size])
            contenders[f"organizations_{size}_warm"] = ([each.port], wide[:100])
            contenders[f"organizations_{size}_wide"] = ([each.port], wide)
        found = in_rounds(contenders)
        for size, each in brokers.items():
            _walk(each, slugs[size])
        resident = {size: memory.resident(each.pid) / 2**20 for size, each in brokers.items()}
    return figures(found, resident)


def in_rounds(contenders: Mapping[str, Contender]) -> dict[str, Measured]:
    """Each in turn, several times.

    Wide ones at another place each time, and once what they left is forgotten; warm ones after one request of each.
    """
    rounds: dict[str, list[Measured]] = {name: [] for name in contenders}
    ended: dict[str, float] = {}
    for number in range(ROUNDS):
        for name, (ports, requests) in contenders.items():
            first = number * len(requests) // ROUNDS
            if name.endswith("_wide") and name in ended:
                sleep(max(0.0, ended[name] + FORGOTTEN_S - monotonic()))
            if name.endswith("_warm"):
                walk(ports, requests, connections=CONNECTIONS)
            turned = [*requests[first:], *requests[:first]]
            rounds[name].append(run(ports, turned, connections=CONNECTIONS, seconds=SECONDS))
            ended[name] = monotonic()
    return {name: middle(each) for name, each in rounds.items()}


def _walk(served: broker.Served, slugs: Sequence[str]) -> None:
    """One lease of each; RuntimeError where one is refused."""
    for stretch in population.stretches(slugs):
        requests = population.leases(served, stretch)
        middle([walk(served.port, requests, connections=min(CONNECTIONS, len(requests)))])


def figures(measured: dict[str, Measured], resident: dict[int, float]) -> dict[str, float]:
    read = measured.pop("openbao_read")
    named: dict[str, float] = {"replicas_2_vs_1": measured["replicas_2"].rate / measured["replicas_1"].rate}
    named["replicas_1_vs_openbao_read"] = measured["replicas_1"].rate / read.rate
    for kind in ("warm", "wide"):
        small, usual, large = (measured[f"organizations_{size}_{kind}"].rate for size in SIZES)
        named[f"organizations_flat_{kind}"] = large / usual
        named[f"organizations_flat_{kind}_vs_100"] = large / small
    for name, each in {"scale_openbao_read": read, **measured}.items():
        named |= {f"{name}_per_s": each.rate, f"{name}_p99_ms": each.p99}
    named |= {f"organizations_{size}_memory_mb": found for size, found in resident.items()}
    return {name: round(value, 2) for name, value in named.items()}
