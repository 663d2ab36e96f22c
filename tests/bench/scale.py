"""Replicas on one PostgreSQL, and what a million organizations cost.

Figures: ``replicas_1_…`` and ``replicas_2_…`` are leases over one customer's key with one and two brokers;
``organizations_N_…`` are leases with N organizations in the database, over 100 of them drawn at random (``_warm``) and
over up to 20,000 (``_wide``: most requests find nothing in memory); ``…_memory_mb`` is what the broker has in RAM after
both.  ``organizations_flat_warm`` and ``…_wide`` are the rates with a million over those with ten thousand.
OpenBao's audited read is in the same run.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url

from tests.bench import broker, memory, openbao
from tests.bench.lease import sandbox
from tests.bench.load import Measured, http, middle, run
from tests.bench.proxy import databases

SIZES = (100, 10_000, 1_000_000)
CONNECTIONS = 32
SECONDS = 3.0
ROUNDS = 3
_WIDE = 20_000
_COPIES = {
    "organizations": {"id": "'org_n' || n", "slug": "'n' || n", "name": "'N' || n"},
    "credentials": {"id": "'crd_n' || n", "organization_id": "'org_n' || n"},
    "credential_versions": {
        "credential_id": "'crd_n' || n",
        "organization_id": "'org_n' || n",
        "fingerprint": "md5(n::text)",
        "leak_mark": "md5(n::text)",
        "next_probe_at": "NULL::bigint",
    },
    "grants": {"id": "'grt_n' || n", "organization_id": "'org_n' || n"},
}


def measure(directory: Path) -> dict[str, float]:
    """The named figures."""
    with ExitStack() as stack:
        state, upstream = stack.enter_context(sandbox())
        bao = stack.enter_context(openbao.running(directory / "openbao"))
        read = http("GET", "/v1/secret/data/tenants/acme", {"X-Vault-Token": bao.token, "X-Vault-Request": "true"})
        names = ["replicas", *(f"n{size}" for size in SIZES)]
        urls = dict(zip(names, stack.enter_context(databases(directory / "pg", names)), strict=True))
        contenders: dict[str, tuple[Sequence[int], Sequence[bytes]]] = {"openbao_read": ([bao.port], [read])}
        there = state.add_organization("acme")

        def served(name: str) -> broker.Served:
            home = directory / name
            home.mkdir()
            key = state.add_key(there)[1]
            return stack.enter_context(broker.running(home, upstream, key, database_url=urls[name]))

        one = served("replicas")
        second, _ = stack.enter_context(broker.replica(directory / "replicas", urls["replicas"], one.port))
        contenders["replicas_1"] = ([one.port], [_lease(one, "acme")])
        contenders["replicas_2"] = ([one.port, second], [_lease(one, "acme")])
        brokers: dict[int, broker.Served] = {}
        for size in SIZES:
            print(f"scale: making {size:,} organizations …", flush=True)
            brokers[size] = each = served(f"n{size}")
            asyncio.run(_populate(urls[f"n{size}"], size))
            drawn = random.Random(size)
            wide = [f"n{number}" for number in drawn.sample(range(1, size + 1), min(size, _WIDE))]
            contenders[f"organizations_{size}_warm"] = ([each.port], [_lease(each, slug) for slug in wide[:100]])
            contenders[f"organizations_{size}_wide"] = ([each.port], [_lease(each, slug) for slug in wide])
        rounds: dict[str, list[Measured]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, (ports, requests) in contenders.items():
                rounds[name].append(run(ports, requests, connections=CONNECTIONS, seconds=SECONDS))
        resident = {size: memory.resident(each.pid) / 2**20 for size, each in brokers.items()}
    return _figures({name: middle(each) for name, each in rounds.items()}, resident)


def _lease(served: broker.Served, slug: str) -> bytes:
    body = json.dumps({"organization": slug, "provider": "raptor-comply"}).encode()
    return http("POST", "/v1/leases", {"Authorization": f"Bearer {served.access_token}"}, body)


async def _populate(url: str, size: int) -> None:
    """Copy acme's rows for so many organizations more; their keys' bytes are acme's, which nothing here opens."""
    at = make_url(url)
    connection = await asyncpg.connect(
        user=at.username, database=at.database, host=str(at.query["host"]), command_timeout=1200
    )
    try:
        await connection.execute("SELECT set_config('broker.tenants', '*', false)")
        for table, replaced in _COPIES.items():
            found = await connection.fetch(
                "SELECT column_name AS name FROM information_schema.columns WHERE table_name = $1", table
            )
            columns = [row["name"] for row in found]
            values = ", ".join(replaced.get(name, f"{table}.{name}") for name in columns)
            await connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, generate_series(1, {size}) n"
            )
            await connection.execute(f"ANALYZE {table}")
    finally:
        await connection.close()


def _figures(measured: dict[str, Measured], resident: dict[int, float]) -> dict[str, float]:
    named: dict[str, float] = {"replicas_2_vs_1": measured["replicas_2"].rate / measured["replicas_1"].rate}
    named["replicas_1_vs_openbao_read"] = measured["replicas_1"].rate / measured["openbao_read"].rate
    for kind in ("warm", "wide"):
        large, small = measured[f"organizations_1000000_{kind}"], measured[f"organizations_10000_{kind}"]
        named[f"organizations_flat_{kind}"] = large.rate / small.rate
    for name, each in measured.items():
        named |= {f"{name}_per_s": each.rate, f"{name}_p99_ms": each.p99}
    named |= {f"organizations_{size}_memory_mb": found for size, found in resident.items()}
    return {name: round(value, 2) for name, value in named.items()}
