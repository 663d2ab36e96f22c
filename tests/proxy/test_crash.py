"""A process that dies within a call: the use stays on the record, and is closed as unknown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2

from broker.client.client import Client
from broker.client.identity import Identity, generate, public
from broker.keystore.local import MasterKeys
from broker.sandbox.app import create_sandbox
from broker.sandbox.faults import Faults
from broker.sandbox.serve import running as serving
from broker.sandbox.state import State
from tests.support.processes import free_port
from tests.support.program import Program
from tests.support.waiting import eventually
from tests.support.world import running_world, settings_for


async def test_a_use_whose_process_was_killed_is_closed_as_unknown(tmp_path: Path, database_url: str) -> None:
    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    state = State()
    async with serving(create_sandbox("admin-token", state)) as upstream:
        program = await asyncio.to_thread(Program, tmp_path, database_url, upstream, free_port())

        def set_up() -> dict[str, str]:
            with httpx2.Client(base_url=program.url, timeout=30) as http:
                made = http.post("/v1/bootstrap", json={"token": program.bootstrap, "name": "ada"}).json()
                http.headers["Authorization"] = f"Bearer {made['token']}"
                http.post("/v1/organizations", json={"slug": "acme", "name": "acme"})
                key = state.add_key(state.add_organization("acme"))[1]
                http.post("/v1/credentials", json={"organization": "acme", "provider": "raptor-comply", "key": key})
                private = generate()
                job = http.post("/v1/workloads", json={"name": "sync", "jwks": public(private)}).json()
                grant = {"workload": "sync", "organizations": ["acme"], "provider": "raptor-comply", "modes": ["use"]}
                http.post("/v1/grants", json=grant)
            with Client(Identity(program.url, job["id"], private)) as client:
                return {**made, "lease": client.lease("acme", "raptor-comply")["token"]}

        made = await asyncio.to_thread(set_up)
        state.faults = Faults(latency_ms=3_000)
        forwarded = len(state.requests)

        async def call() -> None:
            async with httpx2.AsyncClient(timeout=30) as http:
                headers = {"Authorization": f"Bearer {made['lease']}"}
                await http.get(f"{program.url}/proxy/acme/raptor-comply/facilities", headers=headers)

        calling = asyncio.create_task(call())
        await eventually(lambda: len(state.requests) > forwarded)
        program.process.kill()
        await asyncio.gather(calling, return_exceptions=True)
        program.process.wait()
        program.output.close()

        settings = settings_for(tmp_path, database_url, upstream)
        async with running_world(settings, state, upstream, bootstrap=False) as world:
            world.admin = {"Authorization": f"Bearer {made['token']}"}
            (authorized,) = await world.events(kind="use.authorized")
            assert await world.events(kind="use.completed") == []
            world.clock.forward(seconds=world.broker.worker.lost_after_ms / 1000 + 1)
            await world.broker.worker.once()
            (unknown,) = await world.events(kind="use.outcome_unknown")
            assert unknown["core"]["use"] == authorized["core"]["use"]
