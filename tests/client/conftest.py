"""A broker on a real port, for a job's client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.served import ClientBench, client_bench, open_


@pytest.fixture
async def closed_bench(tmp_path: Path, sqlite_url: str) -> AsyncIterator[ClientBench]:
    """Nobody answers until the test opens it."""
    async with client_bench(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
async def bench(closed_bench: ClientBench) -> AsyncIterator[ClientBench]:
    async with open_(closed_bench):
        yield closed_bench
