"""A broker with something on every page, on each kind of database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.console.demo import Filled, fill
from tests.support.world import World, running_world, settings_for, upstream


@dataclass
class Reader:
    """Somebody with a browser: pages by their addresses, and forms."""

    world: World
    who: dict[str, str]

    async def get(self, path: str, status: int = 200) -> str:
        """The page at ``path`` below ``/console``."""
        response = await self.world.http.get(f"/console{path}", headers=self.who)
        assert response.status_code == status, f"{path}: {response.status_code} {response.text[:2000]}"
        return response.text

    async def post(self, path: str, status: int = 303, **fields: str | list[str]) -> httpx2.Response:
        """The answer to a form."""
        response = await self.world.http.post(f"/console{path}", headers=self.who, data=fields)
        assert response.status_code == status, f"{path}: {response.status_code} {response.text[:2000]}"
        return response


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, database_url, url, reveal_approval="on"), state, url) as made,
    ):
        yield made


@pytest.fixture
async def filled(world: World) -> Filled:
    return await fill(world)


@pytest.fixture
def admin(world: World) -> Reader:
    return Reader(world, world.admin)
