"""A broker whose provider makes keys by its API, and what its tests ask of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.sandbox.state import Key
from tests.support.world import World, running_world, settings_for, upstream

ONE_ANSWER = 'items = "[]"\none_answer = true'
ROTATE = """
[rotate.create]
path = "/api-keys"
body = { name = "{name}" }

[rotate.list]
path = "/api-keys"
{listing}

[rotate.delete]
path = "/api-keys/{id}"

[rotate.own]
path = "/api-keys/current"
"""


@asynccontextmanager
async def minting_world(directory: Path, database_url: str, *, listing: str = ONE_ANSWER) -> AsyncIterator[World]:
    """A broker whose provider makes keys by its API; ``listing`` is how it lists them."""
    async with upstream() as (state, url):
        settings = settings_for(directory, database_url, url)
        (file,) = (directory / "providers").glob("*.toml")
        file.write_text(file.read_text() + ROTATE.replace("{listing}", listing))
        async with running_world(settings, state, url) as made:
            yield made


def live(world: World) -> list[Key]:
    """Keys that work at the upstream."""
    return [key for key in world.upstream.keys.values() if key.state == "active"]


async def begin(world: World, credential: str) -> dict[str, Any]:
    made = await world.call("POST", f"/v1/credentials/{credential}/rotate", status=201, json={})
    assert made["link"] is None, "nobody is asked"
    begun: dict[str, Any] = made["rotation"]
    return begun


async def finished(world: World, credential: str) -> None:
    """Let the rotation run to its end; then one key is left, and it is the one in use."""
    for _ in range(8):
        await world.work(hours=1)
    assert await world.states(credential) in (["revoked", "active"], ["destroyed", "revoked", "active"])
    (version,) = [one for one in await world.versions(credential) if one["state"] == "active"]
    (key,) = live(world)
    assert key.last4 == version["last4"]
    old = (await world.versions(credential))[0]
    assert old["revocation_confirmed_at"] is not None
