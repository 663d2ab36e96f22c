"""A broker over a filled database of each kind, which all tests here share: filling one takes seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.audit import places
from broker.client.identity import Identity, generate, public
from tests.bench.growth.filling import declare, fill
from tests.bench.growth.rows import Customers, Size
from tests.support.databases import Postgres, sqlite_copy
from tests.support.world import PUBLIC_URL, Job, World, running_world, settings_for, upstream

# Every table has several times the rows that a statement may read.
SIZE = Size(
    organizations=8_000,
    credentials=10_000,
    workloads=8_000,
    grants_of_one_job=10_000,
    other_grants=2_000,
    leases=20_000,
    uses_under_way=8_000,
    events=3 * places.BLOCK,
    intakes=8_000,
    rotations=8_000,
    notices=8_000,
    findings=8_000,
    exposures=8_000,
    short_lived=8_000,
    waiting=4_000,
)


@dataclass(frozen=True, slots=True)
class Grown:
    """A running broker, the customers in its database, and the job that has a right to every customer's key."""

    world: World
    customers: Customers
    job: Job


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def grown(
    request: pytest.FixtureRequest,
    prepared_postgres: Postgres,
    sqlite_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Grown]:
    home, private = tmp_path_factory.mktemp("grown"), generate("EdDSA")
    if request.param == "sqlite":
        url = sqlite_copy(sqlite_file, home)
    else:
        url = await prepared_postgres.fresh()
    async with upstream() as (state, upstream_url):
        settings = settings_for(home, url, upstream_url)
        declare(home / "providers")
        async with running_world(settings, state, upstream_url) as world:
            parts = world.services.parts
            customers = await fill(parts.db, parts.keystore, parts.keys, SIZE, public(private))
            yield Grown(world, customers, Job(world, Identity(PUBLIC_URL, customers.job, private)))
    if request.param == "postgresql":
        await prepared_postgres.drop(url)
