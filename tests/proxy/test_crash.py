"""A process that dies, or is told to end, within a call: the use stays on the record, and has an outcome there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker.client.client import Client
from broker.client.identity import Identity, generate, public
from broker.keystore.local import MasterKeys
from broker.proxy.duties import lost_after_ms
from broker.sandbox.state import State
from tests.proxy.conftest import problem
from tests.support.lab import KEY, Lab, Seen, lab_upstream
from tests.support.processes import free_port, listens
from tests.support.program import Program
from tests.support.waiting import eventually
from tests.support.world import World, running_world, settings_for


@dataclass
class UnderWay:
    """A call that the upstream has and a broker in a process of its own waits for."""

    program: Program
    lab: Lab
    database_url: str
    admin: dict[str, str]
    calling: asyncio.Task[httpx2.Response]

    @asynccontextmanager
    async def afterwards(self) -> AsyncIterator[World]:
        """Another broker, that reads the record."""
        settings = settings_for(self.program.directory, self.database_url, self.lab.url)
        async with running_world(settings, State(), self.lab.url, bootstrap=False) as world:
            world.admin = self.admin
            yield world


@asynccontextmanager
async def a_call_under_way(directory: Path, database_url: str, **how: Any) -> AsyncIterator[UnderWay]:
    """The upstream has the call, and never answers."""
    MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
    async with lab_upstream(directory / "providers") as lab:
        port = free_port()
        program = await asyncio.to_thread(Program, directory, database_url, lab.url, port, **how)
        has_it = asyncio.Event()

        async def held(_seen: Seen, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            has_it.set()
            await reader.read()  # until the broker leaves

        lab.scripts["/x"] = held

        def set_up() -> tuple[dict[str, str], str]:
            with httpx2.Client(base_url=program.url, timeout=30) as http:
                made = http.post("/v1/bootstrap", json={"token": program.bootstrap, "name": "ada"}).json()
                http.headers["Authorization"] = f"Bearer {made['token']}"
                http.post("/v1/organizations", json={"slug": "acme", "name": "acme"})
                http.post("/v1/credentials", json={"organization": "acme", "provider": "lab", "key": KEY})
                private = generate()
                job = http.post("/v1/workloads", json={"name": "sync", "jwks": public(private)}).json()
                grant = {"workload": "sync", "organizations": ["acme"], "provider": "lab", "modes": ["use"]}
                http.post("/v1/grants", json=grant)
            with Client(Identity(program.url, job["id"], private)) as client:
                lease = client.lease("acme", "lab").token
            return {"Authorization": f"Bearer {made['token']}"}, f"Bearer {lease}"

        async def call(lease: str) -> httpx2.Response:
            async with httpx2.AsyncClient(timeout=60) as http:
                return await http.get(f"{program.url}/proxy/acme/lab/x", headers={"Authorization": lease})

        calling = None
        try:
            await eventually(lambda: listens(port))
            admin, lease = await asyncio.to_thread(set_up)
            calling = asyncio.create_task(call(lease))
            await has_it.wait()
            yield UnderWay(program, lab, database_url, admin, calling)
        finally:
            program.kill()
            if calling is not None:
                await asyncio.gather(calling, return_exceptions=True)


async def test_a_use_whose_process_was_killed_is_closed_as_unknown(tmp_path: Path, database_url: str) -> None:
    async with a_call_under_way(tmp_path, database_url) as under_way:
        under_way.program.kill()
        await asyncio.gather(under_way.calling, return_exceptions=True)
        async with under_way.afterwards() as world:
            (authorized,) = await world.events(kind="use.authorized")
            assert await world.events(kind="use.completed") == []
            world.clock.forward(seconds=lost_after_ms(world.services.in_flight.limits) / 1000 + 1)
            await world.broker.worker.once()
            (unknown,) = await world.events(kind="use.outcome_unknown")
            assert unknown["core"]["use"] == authorized["core"]["use"]


async def ends_by(number: signal.Signals, under_way: UnderWay) -> None:
    """The process is told to end while a call is under way: the call is cut, and its outcome is on the record."""
    under_way.program.process.send_signal(number)
    assert problem(await under_way.calling) == (503, "broker_ending")
    assert await asyncio.to_thread(under_way.program.process.wait, 60) == 0
    assert "Traceback" not in under_way.program.log.read_text()
    async with under_way.afterwards() as world:
        (authorized,) = await world.events(kind="use.authorized")
        (completed,) = await world.events(kind="use.completed")
        assert (completed["core"]["use"], completed["core"]["reason"]) == (authorized["core"]["use"], "broker_ending")
        assert completed["core"]["outcome"]["status"] is None


SOON = {"BROKER_PROXY_DRAIN_SECONDS": "0.2"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_broker_that_is_told_to_end_records_the_outcome_of_calls_under_way(
    tmp_path: Path, sqlite_url: str, number: signal.Signals
) -> None:
    async with a_call_under_way(tmp_path, sqlite_url, more=SOON) as under_way:
        await ends_by(number, under_way)


async def test_so_does_each_of_several_processes(tmp_path: Path, postgres_url: str) -> None:
    async with a_call_under_way(tmp_path, postgres_url, more=SOON, options=("--workers", "2")) as under_way:
        await ends_by(signal.SIGTERM, under_way)
