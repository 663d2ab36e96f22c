"""A worker that takes events into the log while a test waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.support.world import World


async def integrate(world: World) -> None:
    """Take in all events that there are."""
    await world.broker.worker.duties["integrate"].run()


@asynccontextmanager
async def integrating(world: World) -> AsyncIterator[None]:
    """Take events in all the time."""

    async def work() -> None:
        while True:
            await integrate(world)
            await asyncio.sleep(0.05)

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
