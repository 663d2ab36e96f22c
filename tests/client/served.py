"""A broker at the address it says it has, with two upstreams behind it: what a job's client works against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.client.client import Client
from broker.client.identity import Identity
from broker.formats.ids import CredentialId
from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.support.lab import KEY, Lab, lab_upstream
from tests.support.processes import free_port
from tests.support.world import World, running_world, settings_for, upstream

RAPTOR = "raptor-comply"
LAB = "lab"


@dataclass
class ClientBench:
    """acme's keys for both upstreams, and a job whose grants the test gives."""

    world: World
    lab: Lab
    url: str
    identity: Identity
    credentials: dict[str, CredentialId]
    clients: list[Client] = field(default_factory=list)

    def client(self) -> Client:
        """The job's own; it blocks, so a test uses it in a thread.  The bench closes it."""
        self.clients.append(Client(self.identity))
        return self.clients[-1]

    async def grant(self, provider: str = RAPTOR, **terms: Any) -> str:
        """A right of the job to acme's key; its id."""
        wanted = {
            "workload": self.identity.client_id,
            "organizations": ["acme"],
            "provider": provider,
            "modes": ["use"],
            **terms,
        }
        made = await self.world.call("POST", "/v1/grants", status=201, json=wanted)
        return str(made["items"][0]["id"])

    async def leases(self) -> list[dict[str, Any]]:
        """Every lease, oldest first."""
        return await self.world.items("/v1/leases")

    async def states(self) -> list[str]:
        """Of every lease, oldest first."""
        return [lease["state"] for lease in await self.leases()]

    async def count(self, kind: str) -> int:
        """How many such events are on the record."""
        return len(await self.world.events(kind=kind))


@asynccontextmanager
async def client_bench(directory: Path, database_url: str) -> AsyncIterator[ClientBench]:
    """The bench; whoever makes it serves ``world.edge`` with :func:`open_`."""
    url = f"http://127.0.0.1:{free_port()}"
    async with (
        lab_upstream(directory / "providers") as lab,
        upstream() as (state, upstream_url),
        running_world(
            settings_for(directory, database_url, upstream_url, public_url=url), state, upstream_url
        ) as world,
    ):
        credentials = {RAPTOR: await world.key_for("acme")}
        wanted = {"organization": "acme", "provider": LAB, "key": KEY}
        credentials[LAB] = (await world.call("POST", "/v1/credentials", status=201, json=wanted))["credential"]
        job = await world.job()
        bench = ClientBench(world, lab, url, Identity(url, job.id, job.identity.private_jwk), credentials)
        yield bench
        for client in bench.clients:
            client.close()


@asynccontextmanager
async def open_(bench: ClientBench) -> AsyncIterator[None]:
    """The broker answers while the context is open."""
    async with serving(bench.world.edge, protocol=Connection, port=int(bench.url.rpartition(":")[2])):
        yield
