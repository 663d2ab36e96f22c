"""A broker on a real port, for a job's client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.served import Desk, desk_of, open_


@pytest.fixture
async def closed_desk(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Desk]:
    """Nobody answers until the test opens it."""
    async with desk_of(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
async def desk(closed_desk: Desk) -> AsyncIterator[Desk]:
    async with open_(closed_desk):
        yield closed_desk
