"""A broker at an address where there are passkeys, and people who come to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.passkey import ORIGIN, Person
from tests.support.world import World, running_world, settings_for, upstream


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, database_url, url, public_url=ORIGIN), state, url) as made,
    ):
        yield made


async def invited(world: World, name: str = "grace", *roles: str) -> str:
    """A one-time link to a new person's account."""
    wanted = {"name": name, "roles": list(roles) or ["operator"]}
    return str((await world.call("POST", "/v1/operators", status=201, json=wanted))["link"])


async def enrolled(world: World, name: str = "grace", *roles: str, counts: bool = False) -> Person:
    """A person who has made a passkey over their link, and is signed in."""
    person = Person(world)
    person.device.counts = counts
    assert (await person.use(await invited(world, name, *roles))).status_code == 200
    assert (await person.add()).status_code == 200
    return person


@pytest.fixture
async def grace(world: World) -> Person:
    return await enrolled(world)
