"""The end of a move: old master keys are destroyed when, and only when, nothing of this database can need them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import select, update

from broker.base.db import EVERY_TENANT
from broker.cli.keystore_move import destroy_old_keys, open_local, refuse_if_stuck
from broker.cli.keystore_names import Name
from broker.credentials.tables import VersionRow
from broker.keystore.keyring import name_of
from broker.keystore.local import MasterKeys
from broker.rewrap import _Moving, held_by, rewrap_all
from tests.support import bao
from tests.support.bao import Bao
from tests.support.world import World, running_world, settings_for, upstream

KEYS = "keybroker/broker/master-keys"


async def moved(world: World, to: str) -> Any:
    return await rewrap_all(world.services, to=world.broker.keystores.moving_to(to))


async def ended(world: World, to: str, capsys: pytest.CaptureFixture[str], *, status: int = 0) -> str:
    """The end of a move there by a command whose settings say so; what it says."""
    said: list[str] = []
    settings = world.settings.model_copy(update={"keystore": to})
    capsys.readouterr()
    with pytest.raises(typer.Exit) if status else nullcontext():
        await destroy_old_keys(world.broker, settings, Name(to), 0, said.append)
    return "\n".join([*said, capsys.readouterr().err])


def forms_left(server: Bao) -> int:
    """Stored forms of the master keys in KV that are not destroyed."""
    versions = server.root.secrets.kv.v2.read_secret_metadata(KEYS)["data"]["versions"]
    return sum(not form["destroyed"] for form in versions.values())


async def test_what_is_stored_behind_the_readers_back_is_moved_by_the_next_pass(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            original, more = _Moving.once, ["globex"]

            async def once(self: _Moving) -> bool:
                done = await original(self)
                if more:  # a broker that was not restarted yet takes a key
                    await world.key_for(more.pop())
                return done

            monkeypatch.setattr(_Moving, "once", once)
            done = await moved(world, "vault-transit")
            assert {name_of(kek_id) for kek_id in done.held} == {"vault-transit", "own"}


async def test_master_keys_that_a_broker_still_seals_with_are_kept_and_named(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            # given: everything was moved, and then a broker that was not restarted stored a key
            await world.key_for("acme")
            await moved(world, "vault-transit")
            await world.key_for("globex")
            # when
            said = await ended(world, "vault-transit", capsys, status=1)
            # then
            active = MasterKeys.from_file(settings.key_file()).active
            assert f"1 '{active}'" in said
            assert "BROKER_KEYSTORE=vault-transit on every broker" in said
            # and once that is moved too, they go, and that is on the record
            await moved(world, "vault-transit")
            assert f"Destroyed {settings.key_file()}" in await ended(world, "vault-transit", capsys)
            assert not settings.key_file().exists()
            (event,) = await world.events(kind="keystore.master_keys_destroyed")
            assert event["core"]["subject"] == "local"


async def test_values_that_do_not_open_are_named_and_stop_nothing_else(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], server: Bao, capsys: pytest.CaptureFixture[str]
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-kv", **vault)
        async with running_world(settings, state, url) as world:
            # given: one key altered in the database, one deleted in Vault
            altered, deleted, well = [await world.key_for(slug) for slug in ("acme", "globex", "initech")]
            async with world.services.parts.db.write(EVERY_TENANT) as session:
                swapped = select(VersionRow.sealed).where(VersionRow.credential_id == well).scalar_subquery()
                await session.execute(
                    update(VersionRow).where(VersionRow.credential_id == altered).values(sealed=swapped)
                )
            path = next(one for one in await paths(server) if deleted in one)
            server.root.secrets.kv.v2.delete_latest_version_of_secret(path)
            # when
            done = await moved(world, "vault-transit")
            # then
            with pytest.raises(typer.Exit):
                refuse_if_stuck(done)
            said = capsys.readouterr().err
            assert f"credential_versions.sealed, credential_id={altered}, number=1: It was altered" in said
            assert f"credential_versions.sealed, credential_id={deleted}, number=1: The key was deleted in" in said
            assert well not in said
            assert (
                sum(count for kek_id, count in (await held_by(world.services.parts.db)).items() if "kv/" in kek_id) == 2
            )


async def paths(server: Bao, prefix: str = "keybroker/organizations/") -> list[str]:
    """Every value's path below a prefix."""
    found: list[str] = []
    for name in server.root.secrets.kv.v2.list_secrets(prefix)["data"]["keys"]:
        found += await paths(server, prefix + name) if name.endswith("/") else [prefix + name]
    return found


async def test_a_database_that_kept_nothing_in_kv_leaves_anothers_master_keys_there(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], server: Bao, capsys: pytest.CaptureFixture[str]
) -> None:
    # given: another deployment's keys under the same mount and prefix
    server.root.secrets.kv.v2.create_or_update_secret(KEYS, MasterKeys({}, "").with_new_key().document())
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            await moved(world, "vault-transit")
            said = await ended(world, "vault-transit", capsys)
    assert "in Vault" not in said
    assert forms_left(server) == 1


async def test_master_keys_in_vault_that_can_not_be_destroyed_are_said_to_be_left(
    tmp_path: Path, sqlite_url: str, server: Bao, vault: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    # given: a role without the right to destroy them
    root = server.root
    rules = (bao.POLICIES / "keybroker-kv.hcl").read_text().replace(f"secret/destroy/{KEYS}", "nothing")
    root.sys.create_or_update_policy("not-all", rules)
    root.auth.approle.create_or_update_approle(
        "not-all", token_policies=["keybroker-transit", "not-all"], token_ttl="10m"
    )
    given = vault | server.approle(root, tmp_path / "not-all", "not-all")
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-kv", **given)
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            await moved(world, "vault-transit")
            # when
            said = await ended(world, "vault-transit", capsys, status=1)
            # then
            assert f"bao kv metadata delete secret/{KEYS}" in said
            assert forms_left(server) == 1
            # and a later run knows of them, though no row does any more
            root.sys.create_or_update_policy("not-all", (bao.POLICIES / "keybroker-kv.hcl").read_text())
            assert "1 stored forms" in await ended(world, "vault-transit", capsys)
            assert forms_left(server) == 0


async def test_a_key_file_that_can_not_be_destroyed_is_peoples_to_destroy(
    tmp_path: Path,
    sqlite_url: str,
    vault: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mounted(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            await moved(world, "vault-transit")
            monkeypatch.setattr(MasterKeys, "destroy_file", mounted)
            said = await ended(world, "vault-transit", capsys, status=1)
    assert f"{settings.key_file()} can't be destroyed from here (Permission denied)" in said
    assert "database" not in said


async def test_a_local_key_file_that_values_need_is_not_made_anew(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            world.broker.keystores.stores.pop("local")
            settings.key_file().unlink()
            with pytest.raises(typer.Exit):
                await open_local(world.broker, settings)
    assert "restore the file from your backup" in capsys.readouterr().err
    assert not settings.key_file().exists()


async def test_people_who_browse_vault_find_the_same_words_after_a_move(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], server: Bao
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            credential = await world.key_for("acme")
            await moved(world, "vault-kv")
            title = world.services.parts.catalog.get("raptor-comply").title
    path = next(one for one in await paths(server) if credential in one)
    about = server.root.secrets.kv.v2.read_secret_metadata(path)["data"]["custom_metadata"]
    assert (about["organization"], about["label"], about["provider"]) == ("acme", "default", title)
