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
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import asyncpg
from sqlalchemy import select
from sqlalchemy.engine import make_url

from broker import keystore_setup
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.config import Settings
from broker.credentials.tables import CredentialRow
from broker.grants.tables import GrantRow
from broker.keystore import internal
from broker.organizations.tables import OrganizationRow
from tests.bench import broker, memory, openbao
from tests.bench.databases import databases
from tests.bench.lease import sandbox
from tests.bench.load import Measured, http, run, walk
from tests.bench.rounds import middle

SIZES = (100, 10_000, 1_000_000)
CONNECTIONS = 32
SECONDS = 3.0
ROUNDS = 3
WIDE = 25_000
_STRETCH = 5_000
FORGOTTEN_S = 61.0

Contender = tuple[Sequence[int], Sequence[bytes]]
"""Ports and the requests that are sent there."""

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
        there = state.add_organization("acme")

        def served(name: str) -> broker.Served:
            home = directory / name
            home.mkdir()
            key = state.add_key(there)[1]
            return stack.enter_context(broker.running(home, upstream, key, database_url=urls[name]))

        one = served("replicas")
        second, _ = stack.enter_context(broker.replica(directory / "replicas", urls["replicas"], one.port))
        brokers = {size: served(f"n{size}") for size in SIZES}
        slugs = {size: _drawn(size) for size in SIZES}
        for size in SIZES:
            print(f"scale: making {size:,} organizations …", flush=True)
            asyncio.run(_populate(urls[f"n{size}"], size))
            asyncio.run(_authenticate(directory / f"n{size}", urls[f"n{size}"], slugs[size]))
        acme = _leases(one, ["acme"])
        contenders: dict[str, Contender] = {
            "openbao_read": ([bao.port], [read]),
            "replicas_1": ([one.port], acme),
            "replicas_2": ([one.port, second], acme),
        }
        for size, each in brokers.items():
            wide = _leases(each, slugs[size])
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


def _drawn(size: int) -> list[str]:
    return [f"n{number}" for number in random.Random(size).sample(range(1, size + 1), min(size, WIDE))]


def _walk(served: broker.Served, slugs: Sequence[str]) -> None:
    """One lease of each, in stretches that an access token outlasts; RuntimeError where one is refused."""
    for first in range(0, len(slugs), _STRETCH):
        stretch = _leases(served, slugs[first : first + _STRETCH])
        middle([walk(served.port, stretch, connections=min(CONNECTIONS, len(stretch)))])


def _leases(served: broker.Served, slugs: Sequence[str]) -> list[bytes]:
    """A request for each, with a token of now: populating may outlast the one of the set-up."""
    job = {"Authorization": f"Bearer {served.fresh_access_token()}"}
    bodies = [json.dumps({"organization": slug, "provider": "raptor-comply"}).encode() for slug in slugs]
    return [http("POST", "/v1/leases", job, body) for body in bodies]


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


async def _authenticate(home: Path, url: str, slugs: Sequence[str]) -> None:
    """Make the copied rights of these organizations the broker's own; nobody meets the others."""
    settings = Settings(state_dir=home, master_key_file=home / "master-keys.toml", database_url=url)
    db = Database(settings.database())
    try:
        async with keystore_setup.opened(settings, db, now_ms, may_create=False) as opened:
            await internal.load(db, keystore_setup.in_force(settings, opened), now_ms())
        for first in range(0, len(slugs), _STRETCH):
            organizations = [f"org_{slug}" for slug in slugs[first : first + _STRETCH]]
            async with db.write(EVERY_TENANT) as session:
                for query in (
                    select(OrganizationRow).where(OrganizationRow.id.in_(organizations)),
                    select(CredentialRow).where(CredentialRow.organization_id.in_(organizations)),
                    select(GrantRow).where(GrantRow.organization_id.in_(organizations)),
                ):
                    for row in await session.scalars(query):
                        row.authenticate(db.row_key)
    finally:
        await db.close()


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
