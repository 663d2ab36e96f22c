"""Two processes over one file of SQLite, while jobs ask them for leases: what was answered is on the record, once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import pytest

from broker.client.client import Client
from broker.client.identity import Identity, generate, public
from broker.keystore.local import MasterKeys
from tests.support.lab import KEY, lab_upstream
from tests.support.processes import free_port, spawned
from tests.support.program import Program
from tests.support.waiting import eventually

_JOBS = 6
# Several processes start on a machine that is busy.
_SOON_S = 90.0
WANTED = {"organization": "acme", "provider": "lab"}


@dataclass
class Load:
    """Jobs that ask for leases, each over a connection of its own that any of the processes may take."""

    program: Program
    file: Path
    headers: dict[str, str]
    given: list[str] = field(default_factory=list)
    """The leases that were answered."""
    refused: list[int] = field(default_factory=list)
    asking: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def workers(self) -> set[int]:
        return spawned(self.program.process.pid)

    def has_two_without(self, killed: int) -> bool:
        return len(self.workers - {killed}) == 2

    async def more(self, count: int = 40) -> None:
        """Return once so many more leases were given."""
        wanted = len(self.given) + count
        await eventually(lambda: len(self.given) >= wanted, seconds=_SOON_S)

    async def ask(self) -> None:
        async with httpx2.AsyncClient(timeout=30, headers={"Connection": "close", **self.headers}) as http:
            while True:
                with suppress(httpx2.TransportError):  # whoever took it has died
                    answer = await http.post(f"{self.program.url}/v1/leases", json=WANTED)
                    if answer.status_code == 201:
                        self.given.append(answer.json()["lease"]["id"])
                    else:
                        self.refused.append(answer.status_code)
                await asyncio.sleep(0)

    async def end(self) -> None:
        for each in self.asking:
            each.cancel()
        await asyncio.gather(*self.asking, return_exceptions=True)

    def record(self) -> tuple[list[int], list[str]]:
        """The indices of all events, and the leases that were issued, in order."""
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("BEGIN")  # what follows is of one moment: the broker goes on
            indices = [index for (index,) in connection.execute("SELECT idx FROM audit_events ORDER BY idx")]
            ((size,),) = connection.execute("SELECT size FROM audit_head")
            assert indices == list(range(size)), "dense"
            issued = connection.execute("SELECT lease_id FROM audit_events WHERE kind = 'lease.issued' ORDER BY idx")
            return indices, [lease for (lease,) in issued]

    def check(self) -> None:
        """All that was answered is on the record, once; whoever was refused was told to come again."""
        _, issued = self.record()
        assert len(set(issued)) == len(issued)
        assert set(self.given) <= set(issued)
        assert set(self.refused) <= {503}, "never an error"

    def nobody_fought(self) -> None:
        """Nobody has met another's lock, or anything else that is worth a line."""
        log = self.program.log.read_text()
        assert not re.search(r"busy|locked|unavailable|Traceback", log), log[-3000:]


@pytest.fixture
async def load(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Load]:
    async with _load(tmp_path, sqlite_url) as made:
        yield made


@asynccontextmanager
async def _load(directory: Path, database_url: str) -> AsyncIterator[Load]:
    MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
    file = Path(database_url.partition("///")[2])
    async with lab_upstream(directory / "providers") as lab:
        program = await asyncio.to_thread(
            Program, directory, database_url, lab.url, free_port(), options=("--workers", "2")
        )
        try:
            load = Load(program, file, await asyncio.to_thread(_token, program))
            await eventually(lambda: len(load.workers) == 2, seconds=_SOON_S)
            load.asking = [asyncio.create_task(load.ask()) for _ in range(_JOBS)]
            yield load
            await load.end()
        finally:
            for pid in spawned(program.process.pid) if program.process.poll() is None else ():
                os.kill(pid, signal.SIGKILL)
            program.kill()


def _token(program: Program) -> dict[str, str]:
    """What a job that may use acme's key says who it is with."""
    with httpx2.Client(base_url=program.url, timeout=60) as http:
        made = http.post("/v1/bootstrap", json={"token": program.bootstrap, "name": "ada"}).json()
        http.headers["Authorization"] = f"Bearer {made['token']}"
        http.post("/v1/organizations", json={"slug": "acme", "name": "acme"})
        http.post("/v1/credentials", json={"organization": "acme", "provider": "lab", "key": KEY})
        private = generate()
        job = http.post("/v1/workloads", json={"name": "sync", "jwks": public(private)}).json()
        grant = {"workload": "sync", "organizations": ["acme"], "provider": "lab", "modes": ["use"]}
        assert http.post("/v1/grants", json=grant).status_code == 201
    with Client(Identity(program.url, job["id"], private)) as client:
        return {"Authorization": f"Bearer {client.token()}"}


async def test_every_lease_that_either_process_answers_is_on_one_dense_record(load: Load) -> None:
    await load.more(200)
    await load.end()
    assert load.refused == []
    await asyncio.to_thread(load.program.stop)
    load.check()
    load.nobody_fought()


async def test_a_process_that_is_killed_takes_nothing_with_it_and_holds_nobody_up(load: Load) -> None:
    for _ in range(2):
        await load.more()
        killed = min(load.workers)
        os.kill(killed, signal.SIGKILL)
        # the other one goes on, before there is a new one and after
        await load.more(10)
        await eventually(partial(load.has_two_without, killed), seconds=_SOON_S)
    await load.more()
    await load.end()
    load.check()
    load.nobody_fought()


async def test_processes_whose_writer_is_killed_end_and_nothing_that_was_answered_is_lost(load: Load) -> None:
    await load.more()
    workers = load.workers
    load.program.process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(load.program.process.wait)
    # nobody is left that would say yes, or keep the port
    await eventually(lambda: not any(map(alive, workers)), seconds=_SOON_S)
    await load.end()
    load.check()
    again = await asyncio.to_thread(_again, load)
    try:
        async with httpx2.AsyncClient(timeout=60, headers=load.headers) as http:
            answer = await http.post(f"{again.url}/v1/leases", json=WANTED)
        assert answer.status_code == 201
    finally:
        await asyncio.to_thread(again.stop)
    load.check()


def _again(load: Load) -> Program:
    """Another start, as a service manager makes it."""
    environment = load.program.environment
    upstream = re.search(r'base_url = "(.*)/base"', (load.program.directory / "providers" / "lab.toml").read_text())
    assert upstream is not None
    return Program(
        load.program.directory,
        environment["BROKER_DATABASE_URL"],
        upstream[1],
        int(environment["BROKER_PORT"]),
        options=("--workers", "2"),
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
