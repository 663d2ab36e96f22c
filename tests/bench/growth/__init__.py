"""A database after a year with a hundred thousand customers, and what everything takes on it.

It is filled first (:mod:`tests.bench.growth.rows` says with what).  Figures, ``growth_DATABASE_…`` each:

``filled_s``, ``disk_mb``, and on PostgreSQL ``TABLE_row_bytes`` with the row's part of the indexes;
``LIST?FILTERS_ms``, a page of each list of the API, by an operator of every customer; ``slowest_of_lists_ms`` and
``…_record_ms``, the slowest of them; ``dependents_of_hot_key_ms``;
``first_lease_p50_ms`` and ``first_use_…``, of subjects that were never asked for, of the job that has a right to every
customer's key, then ``next_…``; ``look_up_p50_ms``, of what the first reads;
``use_cpu_us``, ``use_disk_bytes``, ``use_wal_bytes``, of each of some thousand proxied uses; ``memory_mb`` of the
broker after all lists, ``memory_after_uses_mb`` after the uses;
``key_list_of_one_s`` and ``…_requests``, of a command that lists one customer's keys;
``keystore_status_s``; ``rewrapped_per_s``; ``use_p99_beside_rewrap_vs_before``;
``duty_NAME_ms`` and ``…_statements``, a round of each duty of the worker; ``checks_per_s``, of due keys, at an upstream
that answers after 50 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from broker import keystore_setup
from broker.base.clock import now_ms
from broker.base.db import Database
from broker.cli.sandbox_folder import sandbox_provider
from broker.client.identity import Identity, generate, public
from broker.config import Settings
from broker.keystore import internal
from tests.bench import broker, upstream
from tests.bench.databases import databases
from tests.bench.growth import moved, served, worked
from tests.bench.growth.filling import declare, fill
from tests.bench.growth.rows import Customers, Size
from tests.bench.growth.weight import rows_of_tables, scales

ORGANIZATIONS = 100_000
_UPSTREAM_MS = 50


def on_postgres(directory: Path, organizations: int = ORGANIZATIONS) -> dict[str, float]:
    """The figures of PostgreSQL."""
    with databases(directory / "pg", ["growth"]) as (url,):
        return _named("growth_postgres", _measured(directory / "broker", organizations, url))


def on_sqlite(directory: Path, organizations: int = ORGANIZATIONS) -> dict[str, float]:
    """The figures of SQLite."""
    return _named("growth_sqlite", _measured(directory / "broker", organizations, None))


def _named(prefix: str, found: Iterator[tuple[str, float]]) -> dict[str, float]:
    return {f"{prefix}_{name}": float(f"{value:.4g}") for name, value in found}


def _measured(home: Path, organizations: int, url: str | None) -> Iterator[tuple[str, float]]:
    private = generate("EdDSA")
    with upstream.running(home / "upstream") as port:
        with broker.running(home, f"http://127.0.0.1:{port}", database_url=url) as prepared:
            public_port, operator_token = prepared.port, prepared.operator_token
        declare(home / "providers")
        settings = settings_of(home, url, public_port)
        print(f"growth: making {organizations:,} organizations …", flush=True)
        began = time.perf_counter()
        customers = asyncio.run(filled(settings, Size.of(organizations), public(private)))
        yield "filled_s", time.perf_counter() - began
        weigh = scales(url, settings.state_dir / "broker.db")
        yield "disk_mb", weigh().disk / 2**20
        if url is not None:
            yield from rows_of_tables(url)
        with broker.replica(home, url, public_port) as (replica, pid):
            job = Identity(settings.public_url, customers.job, private)
            serving = served.Serving(replica, pid, operator_token, job, customers, home)
            for part in _PARTS:
                yield from part(serving)
            yield from served.cost_of_uses(serving, weigh)
            yield from moved.keystore(serving, settings, url)
    with upstream.running(home / "far-away", answers_in_ms=_UPSTREAM_MS) as port:
        sandbox_provider(home / "providers", f"http://127.0.0.1:{port}")
        declare(home / "providers")
        yield from asyncio.run(_worked(settings, customers))


_PARTS: tuple[Callable[[served.Serving], Iterator[tuple[str, float]]], ...] = (
    served.pages,
    served.first_and_next,
    served.commands,
)


def settings_of(home: Path, url: str | None, public_port: int) -> Settings:
    """The settings of a broker in ``home`` on the database at ``url``, or on SQLite."""
    return Settings(
        state_dir=home,
        providers_dir=home / "providers",
        database_url=None if url is None else SecretStr(url),
        public_url=f"http://127.0.0.1:{public_port}",
        reveal_approval="off",
    )


async def filled(settings: Settings, size: Size, jwks: dict[str, Any]) -> Customers:
    """The rows of so many customers, in the database of these settings."""
    db = Database(settings.database())
    try:
        async with keystore_setup.opened(settings, db, now_ms, may_create=False) as opened:
            keystore = keystore_setup.in_force(settings, opened)
            keys = await internal.load(db, keystore, now_ms())
            return await fill(db, keystore, keys, size, jwks)
    finally:
        await db.close()


async def _worked(settings: Settings, customers: Customers) -> list[tuple[str, float]]:
    return [figure async for figure in worked.work(settings, customers)]
