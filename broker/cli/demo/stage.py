"""What the story stands on: a sandbox upstream and a broker with its default keystore.

Both are served for real.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from broker import app as composition
from broker.cli import sandbox
from broker.cli.alone import InUse, alone_in
from broker.cli.sandbox_folder import FolderUnusable
from broker.config import Settings
from broker.sandbox.serve import running as serving
from broker.serving import asgi, protocol

STATE = Path("var/demo")


class StageUnusable(Exception):
    """The demo can't be played here; the text names the fix."""


@dataclass(frozen=True, slots=True)
class DemoStage:
    """The addresses of everything, and the one-time token that the first start gives out."""

    broker: str
    upstream: str
    upstream_admin: httpx2.AsyncClient
    bootstrap: str

    @property
    def sandbox(self) -> Path:
        """The sandbox's folder, for ``broker sandbox --dir``."""
        return STATE / "sandbox"

    @property
    def identity(self) -> Path:
        """Where the job's identity is kept, for its owner alone."""
        return STATE / "nightly-sync.identity.json"

    @property
    def token(self) -> Path:
        """Where the operator's token is kept, for its owner alone."""
        return STATE / "operator-token"


def _bound(port: int) -> socket.socket:
    """A socket that listens on ``port``, or on any free one if somebody else does.

    It is the one that serves, so nobody can come between.
    """
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


@asynccontextmanager
async def stage(port: int) -> AsyncIterator[DemoStage]:
    """Run everything, on fresh state under ``var/demo``.

    Raises:
        StageUnusable: another demo runs there, or the folder can't be used.
    """
    async with AsyncExitStack() as having:
        try:
            having.enter_context(alone_in(STATE))
            _empty(STATE)
            scene = await having.enter_async_context(_served(port))
        except InUse:
            raise StageUnusable(f"{STATE}: another demo runs here; end it, or run this one elsewhere.") from None
        except FolderUnusable as error:
            raise StageUnusable(str(error)) from None
        except OSError as error:
            raise StageUnusable(f"{error.filename or STATE}: {error.strerror}; run the demo elsewhere.") from None
        yield scene


def _empty(folder: Path) -> None:
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()


@asynccontextmanager
async def _served(port: int) -> AsyncIterator[DemoStage]:
    with _bound(port) as bound:
        async with sandbox.serving(STATE / "sandbox", 0) as upstream:
            settings = _settings(f"http://localhost:{bound.getsockname()[1]}", upstream.providers)
            async with (
                composition.running(settings) as broker,
                serving(asgi(broker, with_worker=True)[1], bound=bound, lifespan="on", protocol=protocol(settings)),
                httpx2.AsyncClient(
                    base_url=upstream.url, headers={"X-Admin-Token": upstream.admin_token}
                ) as upstream_admin,
            ):
                token = await composition.bootstrap_token(broker.services)
                assert token is not None
                yield DemoStage(settings.public_url, upstream.url, upstream_admin, token)


def _settings(address: str, providers: Path) -> Settings:
    """The demo's own settings: those of the environment are another broker's."""
    for name in [name for name in os.environ if name.startswith("BROKER_")]:
        del os.environ[name]
    return Settings(
        state_dir=STATE,
        providers_dir=providers,
        public_url=address,
        vendor_name="Gridwise Compliance",
        vendor_contact="keys@gridwise.example",
    )
