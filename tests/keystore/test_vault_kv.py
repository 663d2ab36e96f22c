"""Customers' keys as values in OpenBao's KV: where they lie, who may move them, and that destroyed is destroyed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hvac
import pytest
from sqlalchemy import func, select, update

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import VersionRow
from broker.formats.kv_reference import Reference
from broker.keystore.internal import INTERNAL_ROOT_KEK
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.orphans import OrphanRow, Swept
from tests.support.bao import Bao
from tests.support.databases import Postgres
from tests.support.world import World, running_world, settings_for, upstream

PREFIX = "keybroker"


@pytest.fixture
async def world(tmp_path: Path, database_url: str, vault: dict[str, Any], server: Bao) -> AsyncIterator[World]:
    """A broker whose customers' keys are in KV, and nothing else of a keystore anywhere."""
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, database_url, url, keystore="vault-kv", **vault)
        settings.key_file().unlink()
        async with running_world(settings, state, url) as made:
            yield made


def kv(server: Bao) -> Any:
    return server.root.secrets.kv.v2


async def rows(world: World) -> list[VersionRow]:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return list(await session.scalars(select(VersionRow).order_by(VersionRow.credential_id, VersionRow.number)))


async def orphans(world: World) -> int:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return await session.scalar(select(func.count()).select_from(OrphanRow)) or 0


async def path_of(world: World, credential: str) -> str:
    return next(
        f"{PREFIX}/organizations/{row.organization_id}/{row.provider}/{row.credential_id}"
        for row in await rows(world)
        if row.credential_id == credential
    )


async def test_a_key_lies_at_the_path_of_its_organization_and_is_described_without_secrets(
    world: World, server: Bao
) -> None:
    credential = await world.key_for("acme")
    path = await path_of(world, credential)
    stored = kv(server).read_secret_version(path, raise_on_deleted_version=True)["data"]["data"]
    assert stored["key"] == world.upstream_keys["acme"]
    about = kv(server).read_secret_metadata(path)["data"]
    assert about["cas_required"] is True
    assert about["custom_metadata"]["organization"] == "acme"
    assert about["custom_metadata"]["credential_id"] == credential
    assert about["custom_metadata"]["newest"] == "version 1 of the credential is version 1 here"
    assert world.upstream_keys["acme"] not in str(about)
    # and: the row holds a reference only, with nothing left to be destroyed
    reference = Reference.decode((await rows(world))[0].sealed or b"")
    assert (reference.path, reference.number) == (path, 1)
    assert world.upstream_keys["acme"].encode() not in ((await rows(world))[0].sealed or b"")
    assert await orphans(world) == 0


async def test_jobs_use_and_see_a_key_that_lies_in_vault(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    assert (await world.proxied(await job.lease("acme"), "/facilities")).status_code == 200
    assert (await job.lease("acme", mode="reveal"))["key"] == world.upstream_keys["acme"]
    assert (await world.call("GET", "/readyz"))["keystore"] == "ok"


async def test_versions_of_a_credential_are_versions_at_one_path(world: World, server: Bao) -> None:
    credential = await world.key_for("acme")
    _, intake, secret = await world.rotate(credential)
    fresh = world.new_key("acme")
    assert (await world.submit(intake, secret, fresh)).json()["state"] == "accepted"
    path = await path_of(world, credential)
    for number, key in ((1, world.upstream_keys["acme"]), (2, fresh)):
        found = kv(server).read_secret_version(path, version=number, raise_on_deleted_version=True)
        assert found["data"]["data"]["key"] == key
        assert found["data"]["data"]["version"] == str(number)


async def test_a_write_that_does_not_check_and_set_is_refused_by_vault(world: World, server: Bao) -> None:
    path = await path_of(world, await world.key_for("acme"))
    with pytest.raises(hvac.exceptions.InvalidRequest, match="check-and-set"):
        kv(server).create_or_update_secret(path, {"key": "other"})


async def test_somebody_elses_write_at_the_path_moves_the_number_not_the_key(world: World, server: Bao) -> None:
    """People who browse Vault may write there; what the broker put is found by its number all the same."""
    credential = await world.key_for("acme")
    path = await path_of(world, credential)
    kv(server).create_or_update_secret(path, {"key": "by hand"}, cas=1)
    _, intake, secret = await world.rotate(credential)
    fresh = world.new_key("acme")
    assert (await world.submit(intake, secret, fresh)).json()["state"] == "accepted"
    sealed = [Reference.decode(row.sealed or b"").number for row in await rows(world)]
    assert sealed == [1, 3]
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    assert (await job.lease("acme", mode="reveal"))["key"] == fresh


async def test_a_value_moved_to_another_tenants_path_does_not_open(world: World, server: Bao) -> None:
    # given: somebody with every right in Vault puts acme's whole value at globex's path, as the number that it had
    acme, globex = await world.key_for("acme"), await world.key_for("globex")
    stolen = kv(server).read_secret_version(await path_of(world, acme), raise_on_deleted_version=True)["data"]["data"]
    target = await path_of(world, globex)
    kv(server).delete_metadata_and_all_versions(target)
    kv(server).create_or_update_secret(target, stolen, cas=0)
    job = await world.job()
    await world.grant(job, "globex", modes=("use", "reveal"))
    # when
    answer = await job.ask("globex", mode="reveal")
    # then
    assert answer.status_code == 503
    assert answer.json()["code"] == "keystore_unavailable"
    assert stolen["key"] not in answer.text
    lease = await job.lease("globex")
    assert (await world.proxied(lease, "/facilities")).status_code == 503
    # and operators are told, once
    told = (await world.call("GET", "/v1/notices"))["items"]
    assert [one["credential"] for one in told if one["kind"] == "key_unopenable"] == [globex]


async def test_a_reference_moved_to_another_tenants_row_does_not_open(world: World) -> None:
    acme, globex = await world.key_for("acme"), await world.key_for("globex")
    by_credential = {row.credential_id: row for row in await rows(world)}
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(
            update(VersionRow).where(VersionRow.credential_id == globex).values(sealed=by_credential[acme].sealed)
        )
    moved = by_credential[acme].sealed
    assert moved is not None
    with pytest.raises(CannotOpen):
        await world.services.parts.keystore.open(moved, by_credential[globex].binding)


async def test_destroyed_is_destroyed_in_vault(world: World, server: Bao) -> None:
    credential = await world.key_for("acme")
    path = await path_of(world, credential)
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={"reason": "test"})
    world.revoke_upstream(world.upstream_keys["acme"])
    # when: confirmed dead upstream, and still so after a month
    for hours in (0, 25, 7 * 24, 24 * 24):
        await world.work(hours=hours)
        await world.work(seconds=5)
    assert await world.states(credential) == ["revoked"]
    assert (await rows(world))[0].sealed is None
    # then
    versions = kv(server).read_secret_metadata(path)["data"]["versions"]
    assert versions["1"]["destroyed"] is True
    assert await orphans(world) == 0


async def test_a_key_deleted_in_vault_is_the_operators_to_restore(world: World, server: Bao) -> None:
    path = await path_of(world, await world.key_for("acme"))
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    kv(server).delete_latest_version_of_secret(path)
    answer = await world.proxied(lease, "/facilities")
    assert (answer.status_code, answer.json()["cause"]) == (503, "gone")
    kv(server).undelete_secret_versions(path, [1])
    assert (await world.proxied(lease, "/facilities")).status_code == 200


async def test_a_refused_submission_leaves_nothing_in_vault(world: World, server: Bao) -> None:
    """The value is put there before the transaction that would refer to it; what refuses makes it an orphan."""
    credential = await world.key_for("acme")
    path = await path_of(world, credential)
    held = {"organization": "acme", "provider": "raptor-comply", "label": "default", "key": world.new_key("acme")}
    await world.call("POST", "/v1/credentials", status=409, json=held)
    assert await orphans(world) == 1
    await world.work(seconds=61)
    assert await orphans(world) == 0
    versions = kv(server).read_secret_metadata(path)["data"]["versions"]
    assert [versions[number]["destroyed"] for number in ("1", "2")] == [False, True]


async def test_a_crash_before_the_row_is_stored_leaves_a_note_that_the_next_worker_follows(
    world: World, server: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.organization("acme")

    class Crash(BaseException):
        """The process is gone."""

    async def crash(*_given: Any, **_more: Any) -> None:
        raise Crash

    from broker.credentials import manual_entry

    with monkeypatch.context() as patch:
        patch.setattr(manual_entry, "stage", crash)
        wanted = {"organization": "acme", "provider": "raptor-comply", "key": world.upstream_keys["acme"]}
        with pytest.raises(Crash):
            await world.call("POST", "/v1/credentials", status=201, json=wanted)
    assert await rows(world) == []
    assert await orphans(world) == 1
    await world.work(seconds=61)
    assert await orphans(world) == 0
    # and the customer's key can be given again
    made = await world.call("POST", "/v1/credentials", status=201, json={**wanted, "label": "default"})
    assert made["verdict"] == "active"


async def test_a_note_does_not_destroy_what_another_put_under_its_number(world: World, server: Bao) -> None:
    credential = await world.key_for("acme")
    row = (await rows(world))[0]
    assert row.sealed is not None
    reference = Reference.decode(row.sealed)
    other = Reference(reference.path, reference.number, b"m" * 16, reference.seal).encode()
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        session.add(OrphanRow(reference=other, due_at=0))
    await world.work()
    assert await orphans(world) == 0
    assert (await world.services.parts.keystore.open(row.sealed, row.binding)).reveal_text() == world.upstream_keys[
        "acme"
    ]
    assert await world.states(credential) == ["active"]


async def test_a_transaction_that_comes_after_the_sweep_is_refused(world: World) -> None:
    from broker.keystore import orphans as notes

    sealed = Reference("p", 1, b"m" * 16, b"s").encode()
    for begun in (False, True):  # destroyed already, or just being destroyed
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            if begun:
                session.add(OrphanRow(reference=sealed, due_at=0))
                await session.flush()
            with pytest.raises(Swept):
                await session.run_sync(lambda sync: notes.keep(sync, sealed))


async def test_a_value_that_can_not_be_destroyed_now_is_destroyed_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.keystore.vault.kv import KvKeystore

    credential = await world.key_for("acme")
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={"reason": "x"})
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/destroy")

    async def away(*_given: Any) -> None:
        raise KeystoreUnavailable("Vault is away", cause="sealed")

    with monkeypatch.context() as patch:
        patch.setattr(KvKeystore, "erase", away)
        await world.work()
        assert await orphans(world) == 1
    await world.work()
    assert await orphans(world) == 0


async def test_the_brokers_own_values_are_sealed_by_a_master_key_in_vault(world: World, server: Bao) -> None:
    from broker.rewrap import held_by, rewrap_all

    await world.key_for("acme")
    before = await held_by(world.services.parts.db)
    (kek_id,) = set(before) - {INTERNAL_ROOT_KEK}
    assert kek_id.startswith("kv/")
    keys = world.broker.keystores.kv_keys
    assert keys is not None
    fresh = await keys.rotate()
    done = await rewrap_all(world.services)
    assert set(done.held) == {fresh, INTERNAL_ROOT_KEK}
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    assert (await job.lease("acme", mode="reveal"))["key"] == world.upstream_keys["acme"]
    assert await orphans(world) == 0
    # and: the old one goes from Vault, with every stored form that had it
    await keys.drop(kek_id)
    assert (await job.lease("acme", mode="reveal"))["key"] == world.upstream_keys["acme"]
    stored = kv(server).read_secret_metadata(f"{PREFIX}/broker/master-keys")["data"]["versions"]
    assert [form["destroyed"] for _, form in sorted(stored.items(), key=lambda item: int(item[0]))][-1] is False
    assert all(form["destroyed"] for number, form in stored.items() if int(number) < len(stored))


async def test_two_brokers_that_begin_at_once_use_one_master_key(
    server: Bao, tmp_path: Path, vault: dict[str, Any], prepared_postgres: Postgres
) -> None:
    import asyncio

    from broker.keystore.vault.login import AppRole
    from broker.keystore.vault.masterkeys import KvKeyWrapper
    from broker.keystore.vault.server import Address, Vault
    from broker.keystore.vault.values import Values

    async def nothing() -> bool:
        return True

    kv(server).delete_metadata_and_all_versions(f"{PREFIX}/broker/master-keys")
    login = AppRole("approle", vault["vault_role_id"], vault["vault_secret_id_file"])
    connections = [Vault(Address(vault["vault_url"]), login, connections=2, timeout=5) for _ in range(4)]
    wrappers = [KvKeyWrapper(Values(connection, "secret", PREFIX), nothing) for connection in connections]
    assert len(set(await asyncio.gather(*(wrapper.newest() for wrapper in wrappers)))) == 1
    kv(server).delete_latest_version_of_secret(f"{PREFIX}/broker/master-keys")
    with pytest.raises(KeystoreUnavailable, match="undelete"):
        await KvKeyWrapper(Values(connections[0], "secret", PREFIX), nothing).newest()
    kv(server).undelete_secret_versions(f"{PREFIX}/broker/master-keys", [1])
    for connection in connections:
        await connection.close()


def as_the_broker(server: Bao, vault: dict[str, Any]) -> Any:
    client: Any = hvac.Client(server.url, token="")
    client.auth.approle.login(vault["vault_role_id"], vault["vault_secret_id_file"].read_text().strip())
    return client.secrets.kv.v2


async def test_the_broker_may_not_list_or_read_beyond_its_prefix(server: Bao, vault: dict[str, Any]) -> None:
    kv(server).create_or_update_secret("somebody/else", {"a": "b"})
    mine = as_the_broker(server, vault)
    attempts: list[Callable[[], Any]] = [
        lambda: mine.read_secret_version("somebody/else", raise_on_deleted_version=True),
        lambda: mine.list_secrets(f"{PREFIX}/organizations"),
        lambda: mine.delete_metadata_and_all_versions(f"{PREFIX}/broker/master-keys"),
        lambda: mine.undelete_secret_versions(f"{PREFIX}/organizations/a/b/c", [1]),
    ]
    for attempt in attempts:
        with pytest.raises(hvac.exceptions.Forbidden):
            attempt()


async def test_the_broker_may_not_have_a_path_forget_keys_by_itself(
    world: World, server: Bao, vault: dict[str, Any]
) -> None:
    path = await path_of(world, await world.key_for("acme"))
    mine = as_the_broker(server, vault)
    before = kv(server).read_secret_metadata(path)["data"]
    for wanted in (
        {"delete_version_after": "1s"},
        {"max_versions": 1},
        {"max_versions": "1"},
        {"cas_required": False},
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            mine.update_metadata(path, **wanted)
    assert kv(server).read_secret_metadata(path)["data"] == before
    assert (before["max_versions"], before["delete_version_after"]) == (10_000, "0s")
    # what it can do all the same, and SECURITY.md says so
    mine.destroy_secret_versions(path, [1])


def test_a_reference_reads_back_and_refuses_what_nobody_wrote() -> None:
    whole = Reference("a/b", 7, b"m" * 16, b"seal").encode()
    assert Reference.decode(whole) == Reference("a/b", 7, b"m" * 16, b"seal")
    assert whole.hex() == "020003612f6200000007" + (b"m" * 16).hex() + b"seal".hex()
    for broken in (b"", b"\x01" + whole[1:], whole[:-5], whole[:4], b"\x02\x00\x00" + whole[6:]):
        with pytest.raises(ValueError, match=r"reference|cut"):
            Reference.decode(broken)
    for wrong in (("", 1, b"m" * 16), ("p", 0, b"m" * 16), ("p", 2**32, b"m" * 16), ("p", 1, b"m")):
        with pytest.raises(ValueError, match="needed"):
            Reference(*wrong, b"seal").encode()
