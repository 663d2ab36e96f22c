"""Empty databases on a PostgreSQL of the benchmark's own, whose commits wait for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.databases import ROLE, Postgres, postgres_server


@contextmanager
def databases(directory: Path, names: Sequence[str]) -> Iterator[list[str]]:
    """Their addresses."""
    with postgres_server(directory) as server:
        yield create(server, names)


def create(server: Postgres, names: Sequence[str]) -> list[str]:
    """Make them on a new server; their addresses."""
    made = [f"CREATE DATABASE {name} OWNER {ROLE}" for name in names]
    asyncio.run(server.admin(f"CREATE ROLE {ROLE} LOGIN", *made))
    return [server.url(name) for name in names]
