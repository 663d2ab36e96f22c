"""A broker served on a real port before a scripted upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.leases.tables import UseRow
from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.proxy.door import Door
from tests.support.lab import KEY, Lab, lab_upstream
from tests.support.waiting import eventually
from tests.support.world import Job, World, running_world, settings_for, upstream


class Ended(NamedTuple):
    """What came of a use: the upstream's status, if it answered."""

    status: int | None


@dataclass
class Bench:
    """acme's key in the lab, a job, and the broker's real port behind its door."""

    world: World
    lab: Lab
    url: str
    job: Job
    credential: str
    door: Door

    async def lease(self, *, provider: str = "lab", **terms: Any) -> dict[str, Any]:
        """A lease under a grant of its own."""
        grant = await self.world.grant(self.job, "acme", provider=provider, **terms)
        return await self.job.lease("acme", provider=provider, grant=grant)

    def declare(self, **fields: Any) -> None:
        """As if the lab's provider file said so."""
        definitions = self.world.services.parts.catalog._definitions
        definitions["lab"] = definitions["lab"].model_copy(update=fields)

    async def call(self, lease: dict[str, Any], path: str, method: str = "GET", **options: Any) -> Any:
        """A call in process, buffered."""
        provider = lease["lease"]["provider"]
        headers = {"Authorization": f"Bearer {lease['token']}", **options.pop("headers", {})}
        return await self.world.http.request(method, f"/proxy/acme/{provider}{path}", headers=headers, **options)

    async def raw(self, lease: dict[str, Any], request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Bytes on a real connection; ``%TOKEN%`` in them becomes the lease's token."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]), limit=1 << 20)
        writer.write(request.replace(b"%TOKEN%", lease["token"].encode()))
        await writer.drain()
        return reader, writer

    async def uses(self) -> list[Ended]:
        """Every use on record, in order, once none is under way."""

        async def closed() -> bool:
            async with self.world.services.parts.db.read(EVERY_TENANT) as session:
                return await session.scalar(select(UseRow.id).limit(1)) is None

        await eventually(closed)
        ended = {event["core"]["use"]: event["core"] for event in await self.world.events(kind="use.completed")}
        authorized = [event["core"]["use"] for event in await self.world.events(kind="use.authorized")]
        return [Ended(ended[use]["outcome"]["status"] if "outcome" in ended[use] else None) for use in authorized]


@asynccontextmanager
async def _bench(directory: Path, database_url: str, **more: Any) -> AsyncIterator[Bench]:
    door = Door()
    async with (
        lab_upstream(directory / "providers") as lab,
        upstream() as (state, url),
        running_world(settings_for(directory, database_url, url, **more), state, url) as world,
        serving(door.of(world.edge), protocol=Connection) as address,
    ):
        await world.organization("acme")
        wanted = {"organization": "acme", "provider": "lab", "key": KEY}
        added = await world.call("POST", "/v1/credentials", status=201, json=wanted)
        assert added["verdict"] == "active"
        yield Bench(world, lab, address, await world.job(), added["credential"], door)


@pytest.fixture
async def bench(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Bench]:
    async with _bench(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
async def either(tmp_path: Path, database_url: str) -> AsyncIterator[Bench]:
    """On each kind of database."""
    async with _bench(tmp_path, database_url) as made:
        yield made


@pytest.fixture
async def bench_on_postgres(tmp_path: Path, postgres_url: str) -> AsyncIterator[Bench]:
    async with _bench(tmp_path, postgres_url) as made:
        yield made


HASTY_S = 2.0


@pytest.fixture
async def hasty(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Bench]:
    """Where a call may last no time; but for so long that what moves isn't taken to stand on a busy machine."""
    async with _bench(tmp_path, sqlite_url, proxy_seconds=HASTY_S, proxy_idle_seconds=HASTY_S / 2) as made:
        yield made


@pytest.fixture
async def narrow(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Bench]:
    """Where little may pass at once."""
    async with _bench(tmp_path, sqlite_url, proxy_bytes=200_000, proxy_calls=3, proxy_share=1) as made:
        yield made


def problem(response: Any) -> tuple[int, str]:
    """Status and code of a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, json.loads(response.text)["code"]


@asynccontextmanager
async def replica(bench: Bench) -> AsyncIterator[World]:
    """Another broker on the same database."""
    world = bench.world
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as other:
        yield other
