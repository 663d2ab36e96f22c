"""What goes wrong: processes die, the database restarts, the Vault is sealed."""

from __future__ import annotations

import asyncio
import time

import structlog

from tests.torture.cluster import REPLICAS, Cluster

_log = structlog.get_logger()


async def kill(parts: Cluster) -> None:
    """kill -9 of a replica, which comes back."""
    number = parts.random.randrange(REPLICAS)
    await asyncio.to_thread(parts.programs[number].kill)
    await asyncio.sleep(parts.random.random())
    parts.programs[number] = await asyncio.to_thread(parts.start, number)


async def kill_two(parts: Cluster) -> None:
    """Two at once: one goes on alone."""
    numbers = parts.random.sample(range(REPLICAS), 2)
    await asyncio.gather(*(asyncio.to_thread(parts.programs[number].kill) for number in numbers))
    for number in numbers:
        parts.programs[number] = await asyncio.to_thread(parts.start, number)


async def restart_database(parts: Cluster) -> None:
    """As if its machine had lost power."""
    await asyncio.to_thread(parts.postgres.restart)


async def seal(parts: Cluster) -> None:
    """Seal the Vault for a while."""
    await asyncio.to_thread(parts.vault.seal)
    await asyncio.sleep(0.5 + parts.random.random())
    await asyncio.to_thread(parts.vault.unseal)


KINDS = (kill, restart_database, seal, kill_two)


async def strike(parts: Cluster, seconds: float) -> list[tuple[str, float]]:
    """One fault after another for so long, each kind in turn and at least once; which there were, and until when."""
    struck: list[tuple[str, float]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(struck) < len(KINDS):
        await asyncio.sleep(1 + parts.random.random())
        fault = KINDS[len(struck) % len(KINDS)]
        await fault(parts)
        struck.append((fault.__name__, time.monotonic()))
    return struck
