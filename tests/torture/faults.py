"""What goes wrong: processes die, the database restarts, the Vault is sealed."""

from __future__ import annotations

import asyncio

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


async def strike(parts: Cluster, seconds: float) -> list[str]:
    """One fault after another for so long, each kind in turn; which there were."""
    kinds = (kill, restart_database, seal, kill_two)
    struck: list[str] = []
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(1 + parts.random.random())
        fault = kinds[len(struck) % len(kinds)]
        struck.append(fault.__name__)
        await fault(parts)
    return struck
