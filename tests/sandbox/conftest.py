"""A sandbox, its admin, and customers' keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from broker.sandbox.app import create_sandbox
from broker.sandbox.state import State

TOKEN = "an admin token for tests"


@dataclass
class Sandbox:
    """The sandbox in process: ``http`` calls it without any header, ``admin`` as its admin."""

    http: httpx2.AsyncClient
    admin: httpx2.AsyncClient
    state: State

    async def organization(self, name: str = "Acme", **more: Any) -> dict[str, Any]:
        """A tenant, as the admin call answers."""
        made = await self.admin.post("/_admin/organizations", json={"name": name, **more})
        assert made.status_code == 201, made.text
        organization: dict[str, Any] = made.json()
        return organization

    async def key(self, organization: dict[str, Any]) -> tuple[str, dict[str, str]]:
        """A key's id, and the headers that carry it."""
        made = await self.admin.post(f"/_admin/organizations/{organization['id']}/keys")
        assert made.status_code == 201, made.text
        return made.json()["id"], {"X-API-Key": made.json()["key"]}

    async def customer(self, name: str = "Acme") -> tuple[dict[str, Any], dict[str, str]]:
        """A tenant, and the headers that carry its key."""
        organization = await self.organization(name)
        return organization, (await self.key(organization))[1]

    async def faults(self, **wanted: Any) -> None:
        """Let things go wrong."""
        answer = await self.admin.put("/_admin/faults", json=wanted)
        assert answer.status_code == 204, answer.text


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    state = State()
    transport = httpx2.ASGITransport(app=create_sandbox(TOKEN, state))
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://sandbox") as http,
        httpx2.AsyncClient(transport=transport, base_url="http://sandbox", headers={"X-Admin-Token": TOKEN}) as admin,
    ):
        yield Sandbox(http, admin, state)
