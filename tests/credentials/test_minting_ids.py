"""What an upstream calls its keys is kept only where it is an id: never a key, however that is written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.base.outbound import Outbound
from broker.credentials.probe import exchange as real
from broker.credentials.tables import VersionRow
from broker.rotations import minting
from tests.support.minting import begin, finished, live, minting_world
from tests.support.world import World

Says = Callable[[Any, str], Any]


@pytest.fixture
async def world(tmp_path: Path, sqlite_url: str) -> AsyncIterator[World]:
    """A broker whose provider makes keys by its API."""
    async with minting_world(tmp_path, sqlite_url) as made:
        yield made


def saying(monkeypatch: pytest.MonkeyPatch, method: str, path: str, says: Says) -> None:
    """``says`` changes what an upstream's answer says; it is given the key that was sent."""

    async def changed(outbound: Outbound, *arguments: Any, **more: Any) -> Any:
        done = await real(outbound, *arguments, **more)
        if arguments[3][:2] == (method, path) and done.status in {200, 201}:
            said = says(json.loads(done.body), arguments[2].reveal().decode())
            return done._replace(body=json.dumps(said).encode())
        return done

    monkeypatch.setattr(minting, "exchange", changed)


async def kept(world: World) -> list[str]:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return list(await session.scalars(select(VersionRow.upstream_id).order_by(VersionRow.number)))


ODD: dict[str, Callable[[str], str]] = {
    "the key": lambda key: key,
    "the key within more": lambda key: f"id:{key}:1",
    "the key, escaped": lambda key: key.replace("_", "%5F"),
    "the key in hexadecimal": lambda key: key.encode().hex(),
    "a name": lambda _: "Jane Doe <jane@acme.example>",
    "control characters": lambda _: "a\x1b[31m",
}


@pytest.mark.parametrize("name", ODD)
async def test_the_id_of_the_key_in_force_is_kept_only_where_it_is_one(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    saying(monkeypatch, "GET", "/api-keys/current", lambda said, key: said | {"id": ODD[name](key)})
    await begin(world, credential)
    await world.work()
    assert await world.states(credential) == ["retiring", "active"]
    first, second = await kept(world)
    assert (first, bool(second)) == ("", True)


@pytest.mark.parametrize("name", [name for name in ODD if name != "control characters"])
async def test_the_id_of_a_new_key_is_kept_only_where_it_is_one(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    new = []

    def made(said: dict[str, Any], _key: str) -> dict[str, Any]:
        new.append(said["key"])
        return said | {"id": ODD[name](said["key"])}

    saying(monkeypatch, "POST", "/api-keys", made)
    await begin(world, credential)
    await world.work()
    assert await world.states(credential) == ["retiring", "active"], "the key itself is a good one"
    first, second = await kept(world)
    assert (bool(first), second) == (True, "")
    for _ in range(3):
        await world.work(hours=1)
    assert len(new) == 1
    assert new[0] not in str(await world.events())


async def test_no_key_is_made_beside_one_that_could_not_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    left = {"id": "two words", "name": ""}

    def listed(said: list[dict[str, Any]], _key: str) -> list[dict[str, Any]]:
        return [*said, left]

    rotation = await begin(world, credential)
    left["name"] = f"keybroker-{rotation['id']}"
    with monkeypatch.context() as patched:
        saying(patched, "GET", "/api-keys", listed)
        await world.work()
        assert await world.states(credential) == ["active"]
        assert len(live(world)) == 1
        assert "mint_failed" in str((await world.call("GET", "/v1/notices"))["items"])
    await world.work(seconds=400)
    await finished(world, credential)
