"""A worker that takes events into the log while a test waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.support.world import World


async def integrate(world: World) -> None:
    """Take in all events that there are."""
    await world.broker.worker.duties["integrate"].run()


async def used(world: World) -> dict[str, Any]:
    """A use of a customer's key, which the log has: its event."""
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    await world.proxied(await job.lease("acme"), "/facilities")
    (event,) = await world.events(kind="use.authorized")
    await integrate(world)
    return event


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
