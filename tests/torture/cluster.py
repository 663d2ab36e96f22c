"""The parts: three brokers, a PostgreSQL, an OpenBao and an upstream that notes what reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.base.secret import Secret
from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running as serving
from broker.sandbox.state import State
from tests.support import bao
from tests.support.databases import Postgres, postgres_server
from tests.support.processes import free_port
from tests.support.program import Program
from tests.support.world import running_world, settings_for
from tests.torture.history import Arrival, History

REPLICAS = 3
_UNGUARDED = str(Path(__file__).with_name("unguarded.py"))


class _Noting:
    """The sandbox, noting each request before it is answered."""

    def __init__(self, app: ASGIApp, state: State, history: History) -> None:
        self._app, self._state, self._history = app, state, history

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            text = dict(scope["headers"]).get(b"x-api-key", b"").decode()
            probe = parse_qs(scope["query_string"].decode()).get("probe", [""])[0]
            key = self._state.key_of(text)
            if probe:
                owner = key.organization.name if key else "nobody"
                self._history.arrivals.append(Arrival(probe, key.id if key else "", owner, time.monotonic()))
        await self._app(scope, receive, send)


@dataclass
class Cluster:
    """What clients and faults work on."""

    history: History
    state: State
    postgres: Postgres
    vault: bao.Bao
    database_url: str
    admin: dict[str, str]
    programs: list[Program]
    clients: list[httpx2.AsyncClient]
    random: random.Random
    start: Callable[[int], Program]
    fingerprint: Callable[[Secret], str]
    # The upstream's id of each key that was made, by the broker's fingerprint of it.
    keys: dict[str, str] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def some(self) -> int:
        """The number of some replica."""
        return self.random.randrange(REPLICAS)

    def new_key(self, slug: str) -> str:
        """A new key of a customer's, made upstream."""
        there = next(one for one in self.state.organizations.values() if one.name == slug)
        key, text = self.state.add_key(there)
        self.keys[self.fingerprint(Secret(text.encode()))] = key.id
        return text

    async def persist(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """A request of the operator's, tried at one replica after another until it is answered."""
        headers = {**self.admin, **options.pop("headers", {})}
        for _ in range(200):
            with contextlib.suppress(httpx2.HTTPError):
                answer = await self.clients[self.some()].request(method, path, headers=headers, **options)
                if answer.status_code < 500:
                    return {"status": answer.status_code, **answer.json()}
            await asyncio.sleep(0.1)
        raise AssertionError(f"{method} {path} was never answered")


@asynccontextmanager
async def cluster(directory: Path, seed: int, *, guarded: bool) -> AsyncIterator[Cluster]:
    """Everything, running; ``guarded=False`` plants the bug."""
    history, state = History(), State()
    with contextlib.ExitStack() as stack:
        pg = stack.enter_context(postgres_server(_short(stack)))
        vault = stack.enter_context(bao.running(directory / "bao"))
        await pg.prepare(durable=True)
        database_url = await pg.fresh()
        given = vault.approle(vault.set_up(), directory / "vault")
        async with serving(_Noting(create_sandbox("torture", state), state, history)) as upstream:
            settings = settings_for(directory, database_url, upstream, keystore="vault-transit", **given)
            async with running_world(settings, state, upstream) as world:
                admin, fingerprint = world.admin, world.services.parts.keys.fingerprint
            ports = [free_port() for _ in range(REPLICAS)]

            def start(number: int) -> Program:
                home = directory / f"replica-{number}"
                home.mkdir(exist_ok=True)
                more = {
                    "BROKER_KEYSTORE": "vault-transit",
                    "BROKER_PUBLIC_URL": "http://127.0.0.1:8080",
                    "BROKER_LOG_LEVEL": "warning",
                    **{f"BROKER_{name.upper()}": str(value) for name, value in given.items()},
                }
                command = (sys.executable, *(("-m", "broker") if guarded else (_UNGUARDED,)))
                return Program(home, database_url, upstream, ports[number], command=command, more=more)

            programs = await _started(start)
            clients = [
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=6, trust_env=False) for port in ports
            ]
            parts = Cluster(
                history,
                state,
                pg,
                vault,
                database_url,
                admin,
                programs,
                clients,
                random.Random(seed),
                start,
                fingerprint,
            )
            try:
                yield parts
            finally:
                for client in clients:
                    await client.aclose()
                await _end(parts.programs)


async def _started(start: Callable[[int], Program]) -> list[Program]:
    """Every replica; none is left running where one of them doesn't start."""
    starting = (asyncio.to_thread(start, number) for number in range(REPLICAS))
    found = await asyncio.gather(*starting, return_exceptions=True)
    programs = [program for program in found if isinstance(program, Program)]
    if len(programs) < REPLICAS:
        await _end(programs)
        raise next(error for error in found if isinstance(error, BaseException))
    return programs


async def _end(programs: list[Program]) -> None:
    for program in programs:
        with contextlib.suppress(ProcessLookupError):
            await asyncio.to_thread(program.kill)


def _short(stack: contextlib.ExitStack) -> Path:
    """A directory whose name is short enough for a socket in it."""
    import tempfile

    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kb-t-", ignore_cleanup_errors=True)))
