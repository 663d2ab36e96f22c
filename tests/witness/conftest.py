"""Witnesses over HTTP, and a broker that asks them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from broker.base.clock import now_ms
from broker.config import Settings
from broker.formats.cosignature import Cosigner
from broker.formats.signed_note import Verifier
from broker.sandbox.serve import running
from broker.sandbox.state import State
from broker.witness.memory import Memory
from broker.witness.serving import Served
from broker.witness.witness import Witness
from tests.support.world import World, running_world, settings_for, upstream


class Auditor:
    """A witness that is served, and may be made to fail."""

    def __init__(self, name: str, folder: Path) -> None:
        self.cosigner = Cosigner(name, name.encode().ljust(32, b"."))
        self.key = self.cosigner.key()
        self.file = folder / f"{name}.db"
        self.logs: list[Verifier] = []
        self.fails: int | None = None
        self.asked = 0
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        if self.fails is not None:
            await send({"type": "http.response.start", "status": self.fails, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        with closing(Memory(self.file)) as memory:
            await Served(Witness(self.cosigner, self.logs, memory, now_ms, lambda *_: None))(scope, receive, send)

    async def forget(self) -> None:
        """Be restored from before it saw anything."""
        self.file.unlink()


@dataclass
class Town:
    """A broker's settings, and the witnesses that it is to ask."""

    folder: Path
    database_url: str
    upstream: State
    upstream_url: str
    auditors: list[Auditor]

    @property
    def list(self) -> Path:
        """The file that lists the witnesses."""
        return self.folder / "witnesses"

    def settings(self, *, quorum: int = 1) -> Settings:
        self.list.write_text("# ours\n\n" + "".join(f"{one.url}/ {one.key.line()} private\n" for one in self.auditors))
        more = {"witnesses_file": self.list, "witness_quorum": quorum}
        return settings_for(self.folder, self.database_url, self.upstream_url, **more)

    @asynccontextmanager
    async def world(self, *, quorum: int = 1, bootstrap: bool = True) -> AsyncIterator[World]:
        """The broker, whose log the witnesses know."""
        settings = self.settings(quorum=quorum)
        async with running_world(settings, self.upstream, self.upstream_url, bootstrap=bootstrap) as world:
            for auditor in self.auditors:
                auditor.logs = [world.services.parts.keys.log(0).verifier()]
            yield world


@pytest.fixture
async def town(tmp_path: Path, database_url: str) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        state, url = await stack.enter_async_context(upstream())
        auditors = [Auditor(name, tmp_path) for name in ("east", "west")]
        for auditor in auditors:
            auditor.url = await stack.enter_async_context(running(auditor))
        yield Town(tmp_path, database_url, state, url, auditors)
