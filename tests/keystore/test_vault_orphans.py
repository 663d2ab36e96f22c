"""What is to be destroyed in OpenBao's KV is destroyed, whoever deleted, wrote or forbade something there meanwhile."""

from __future__ import annotations

from typing import Any

import hvac
import pytest
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import VersionRow
from broker.formats.kv_reference import Reference
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.orphans import OrphanRow
from broker.keystore.vault.kv import KvKeystore
from broker.keystore.vault.values import Values
from tests.support.bao import Bao
from tests.support.world import World


@pytest.fixture
def world(kv_world: World) -> World:
    return kv_world


async def stored(world: World, credential: str) -> Reference:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        sealed = await session.scalar(select(VersionRow.sealed).where(VersionRow.credential_id == credential))
    return Reference.decode(sealed or b"")


async def notes(world: World) -> list[Reference]:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return [Reference.decode(one) for one in await session.scalars(select(OrphanRow.reference))]


async def destroy(world: World, credential: str) -> None:
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={"reason": "x"})
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/destroy")


def destroyed(server: Bao, reference: Reference) -> bool:
    found = server.root.secrets.kv.v2.read_secret_metadata(reference.path)["data"]["versions"]
    return bool(found[str(reference.number)]["destroyed"])


async def test_a_value_that_somebody_deleted_is_destroyed_so_that_nobody_restores_it(world: World, server: Bao) -> None:
    # given
    credential = await world.key_for("acme")
    reference = await stored(world, credential)
    server.root.secrets.kv.v2.delete_latest_version_of_secret(reference.path)
    # when
    await destroy(world, credential)
    await world.work()
    # then
    assert destroyed(server, reference)
    server.root.secrets.kv.v2.undelete_secret_versions(reference.path, [reference.number])
    with pytest.raises(hvac.exceptions.InvalidPath):
        server.root.secrets.kv.v2.read_secret_version(reference.path, raise_on_deleted_version=True)
    assert await notes(world) == []


async def test_a_deleted_value_that_may_be_somebody_elses_is_kept_and_so_is_its_note(world: World, server: Bao) -> None:
    # given: a write of ours that may not have come to pass, at a number whose value nobody can read
    credential = await world.key_for("acme")
    reference = await stored(world, credential)
    ours = Reference(reference.path, reference.number, b"m" * 16, reference.seal)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        session.add(OrphanRow(reference=ours.encode(), due_at=0))
    server.root.secrets.kv.v2.delete_latest_version_of_secret(reference.path)
    # when
    await world.work()
    # then
    assert not destroyed(server, reference)
    assert await notes(world) == [ours]
    # and once it can be read, it is seen to be another's
    server.root.secrets.kv.v2.undelete_secret_versions(reference.path, [reference.number])
    await world.work(seconds=61)
    assert await notes(world) == []
    assert not destroyed(server, reference)


async def test_a_write_that_comes_after_its_note_was_followed_leaves_no_key_in_vault(
    world: World, server: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a replica that stops between the note and the write, until a worker has followed the note
    await world.organization("acme")
    original, late = Values.put, list[tuple[str, bool]]()

    async def comes_late(self: Values, path: str, value: Any, after: int) -> bool:
        if "key" in value and not late:
            late.append((path, False))
            await world.work(seconds=61)
            late[0] = (path, await original(self, path, value, after))
            return late[0][1]
        return await original(self, path, value, after)

    monkeypatch.setattr(Values, "put", comes_late)
    # when
    wanted = {"organization": "acme", "provider": "raptor-comply", "key": world.upstream_keys["acme"]}
    made = await world.call("POST", "/v1/credentials", status=201, json=wanted)
    # then: Vault refused it, and the key was stored by another write
    ((path, taken),) = late
    assert not taken
    versions = server.root.secrets.kv.v2.read_secret_metadata(path)["data"]["versions"]
    assert [versions[number]["destroyed"] for number in sorted(versions)] == [True, False]
    assert made["verdict"] == "active"
    assert await notes(world) == []


async def test_what_can_not_be_destroyed_keeps_nothing_else_waiting(
    world: World, server: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: two values to destroy, one of them where the broker lost its right
    acme, globex = await world.key_for("acme"), await world.key_for("globex")
    one, other = await stored(world, acme), await stored(world, globex)
    await destroy(world, acme)
    await destroy(world, globex)
    original = KvKeystore.erase

    async def forbidden(self: KvKeystore, sealed: bytes) -> None:
        if Reference.decode(sealed).path == one.path:
            raise KeystoreUnavailable("Vault's policy does not let the broker do this.", cause="permission")
        await original(self, sealed)

    with monkeypatch.context() as patch:
        patch.setattr(KvKeystore, "erase", forbidden)
        await world.work()
        # then
        assert destroyed(server, other)
        assert [note.path for note in await notes(world)] == [one.path]
    # and later it is tried again
    await world.work(seconds=61)
    assert destroyed(server, one)
    assert await notes(world) == []
