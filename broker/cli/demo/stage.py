"""What the story stands on: a sandbox upstream and a broker with its default keystore.

Both are served for real.
"""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from broker import app as composition
from broker.config import Settings
from broker.providers import catalog
from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running as serving
from broker.serving import asgi, protocol

STATE = Path("var/demo")
_BUNDLED = Path(catalog.__file__).parent / "definitions" / "raptor-comply.toml"


@dataclass(frozen=True, slots=True)
class DemoStage:
    """The addresses of everything, and the one-time token that the first start gives out."""

    broker: str
    upstream: str
    upstream_admin: httpx2.AsyncClient
    bootstrap: str


def _free(port: int) -> int:
    """``port`` if nobody listens there, else any free one."""
    for wanted in (port, 0):
        try:
            with socket.create_server(("127.0.0.1", wanted)) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise OSError("there is no free port")


def sandbox_provider(directory: Path, upstream: str) -> Path:
    """The bundled Raptor Comply file, in which only the address is the sandbox's."""
    directory.mkdir(parents=True, exist_ok=True)
    text = _BUNDLED.read_text().replace(
        'base_url = "https://api.raptormaps.com"', f'base_url = "{upstream}"\nprivate = true'
    )
    path = directory / _BUNDLED.name
    path.write_text(text)
    return path


@asynccontextmanager
async def stage(port: int) -> AsyncIterator[DemoStage]:
    """Run everything, on fresh state under ``var/demo``."""
    shutil.rmtree(STATE, ignore_errors=True)
    admin_token = secrets.token_urlsafe(24)
    async with serving(create_sandbox(admin_token)) as upstream:
        sandbox_provider(STATE / "providers", upstream)
        address = f"http://127.0.0.1:{_free(port)}"
        settings = Settings(
            state_dir=STATE,
            providers_dir=STATE / "providers",
            public_url=address,
            vendor_name="Gridwise Compliance",
            vendor_contact="keys@gridwise.example",
        )
        async with (
            composition.running(settings) as broker,
            serving(
                asgi(broker, with_worker=True)[1],
                port=int(address.rsplit(":", 1)[1]),
                lifespan="on",
                protocol=protocol(settings),
            ) as url,
            httpx2.AsyncClient(base_url=upstream, headers={"X-Admin-Token": admin_token}) as upstream_admin,
        ):
            token = await composition.bootstrap_token(broker.services)
            assert token is not None
            yield DemoStage(url, upstream, upstream_admin, token)
