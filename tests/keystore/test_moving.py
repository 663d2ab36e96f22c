"""Moving everything from one keystore to another while jobs are at work, by the command that people use."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.config import Settings
from broker.credentials.tables import VersionRow
from broker.keystore.internal import INTERNAL_ROOT_KEK
from broker.keystore.keyring import keystore_of
from broker.keystore.local import MasterKeys
from broker.rewrap import held_by, rewrap_all
from tests.support import commands
from tests.support.bao import Bao
from tests.support.world import World, running_world, settings_for, upstream

NAMES = ["local", "vault-transit", "vault-kv"]
MOVES = list(itertools.permutations(NAMES, 2))


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The settings as a shell would give them."""
    given = {
        f"BROKER_{name.upper()}": str(getattr(settings, name))
        for name in settings.model_fields_set
        if name not in {"database_url", "master_keys"}
    }
    return {**os.environ, **given, "BROKER_DATABASE_URL": settings.database(), "BROKER_LOG_LEVEL": "error", **more}


def command(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    done = commands.run(*whole(words), environment=environment(settings))
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def program(settings: Settings, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command as people start it."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *whole(words)],
        env=environment(settings, **more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def whole(words: Sequence[str]) -> list[str]:
    """The words of a command, which waits for nobody."""
    return ["keystore", *words, *(["--settle", "0"] if words[0] == "migrate" else [])]


async def sealed(world: World) -> list[bytes]:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return [one for one in await session.scalars(select(VersionRow.sealed)) if one is not None]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("old", "new"), MOVES)
async def test_everything_moves_while_jobs_are_at_work(
    old: str, new: str, tmp_path: Path, database_url: str, vault: dict[str, Any], server: Bao
) -> None:
    async with upstream() as (state, url):
        # given: keys, an open link and a job at work over brokers that know both keystores
        before = settings_for(tmp_path, database_url, url, keystore=old, **vault)
        if old != "local":
            before.key_file().unlink()
        async with running_world(before, state, url) as world:
            await world.key_for("acme")
            await world.key_for("globex")
            await world.organization("initech")
            intake, secret = await world.request_key("initech")
            job = await world.job()
            await world.grant(job, "acme", "globex", modes=("use", "reveal"))
            lease = await job.lease("acme")
            admin, keys = world.admin, [world.upstream_keys["acme"], world.upstream_keys["globex"]]
            references = await sealed(world)
        after = before.model_copy(update={"keystore": new})
        if new == "local":  # which has no master key yet
            made = await asyncio.to_thread(command, after, "migrate", "--to", new)
            assert made.returncode == 1
            assert f"{after.key_file()} was made; nothing is moved" in made.stderr
        async with running_world(after, state, url, bootstrap=False) as world:
            world.admin, job.world = admin, world
            over = asyncio.Event()
            answers: list[int] = []
            plain: set[str] = set()

            async def works() -> None:
                while not over.is_set():
                    answers.append((await world.proxied(lease, "/facilities")).status_code)

            async def looks() -> None:
                while not over.is_set():
                    plain.update(await asyncio.to_thread(_holding, tmp_path, *keys))

            load = asyncio.gather(works(), looks())
            # when
            done = await asyncio.to_thread(command, after, "migrate", "--to", new)
            over.set()
            await load
            # then
            assert done.returncode == 0, done.stdout + done.stderr
            assert set(answers) == {200}
            assert plain == set(), "no file held a key at any time"
            assert not any(key in done.stdout + done.stderr for key in keys)
            assert {keystore_of(one) for one in await sealed(world)} == {new}
            begun, ended = (
                await world.events(kind="keystore.rewrap_begun"),
                await world.events(kind="keystore.rewrapped"),
            )
            assert begun[0]["index"] < ended[0]["index"]
            assert old in begun[0]["core"]["subject"]
            assert (await world.proxied(lease, "/facilities")).status_code == 200
            assert (await job.ask("globex", mode="reveal")).json()["key"].startswith("rc_live_")
            key = next(key for name, key in _keys_of(state, "initech"))
            assert (await world.submit(intake, secret, key)).json()["state"] == "accepted"
            # and the old copies are gone, and said to be
            await _gone(old, after, references, server, done.stdout)
            # and again: no change
            again = await asyncio.to_thread(command, after, "migrate", "--to", new, "--json")
            assert again.returncode == 0, again.stderr
            assert {row["keystore"] for row in json.loads(again.stdout)} <= {new, "own"}
        # and it all opens without the old keystore's settings, and where it came from it can go again
        if new == "local":
            alone = after.model_copy(update={"vault_url": ""})
            async with running_world(alone, state, url, bootstrap=False) as world:
                assert (await world.proxied(lease, "/facilities")).status_code == 200
        if old == "vault-kv":
            done = await asyncio.to_thread(command, before, "migrate", "--to", old)
            assert done.returncode == 0, done.stderr


def _holding(directory: Path, *keys: str) -> list[str]:
    """Files that hold one of the keys.  Another process looks: closing SQLite's file here would end its locks."""
    words = [word for key in keys for word in ("-e", key)]
    found = subprocess.run(["grep", "-rlaF", *words, str(directory)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def _keys_of(state: Any, organization: str) -> list[tuple[str, str]]:
    there = next(one for one in state.organizations.values() if one.name == organization)
    return [(organization, state.add_key(there)[1])]


async def _gone(old: str, settings: Settings, references: list[bytes], server: Bao, said: str) -> None:
    from broker.formats.kv_reference import Reference

    if old == "local":
        assert not settings.key_file().exists()
        assert f"Destroyed {settings.key_file()}" in said
    if old == "vault-kv":
        for one in map(Reference.decode, references):
            found = server.root.secrets.kv.v2.read_secret_metadata(one.path)["data"]["versions"]
            assert found[str(one.number)]["destroyed"] is True
        keys = server.root.secrets.kv.v2.read_secret_metadata("keybroker/broker/master-keys")["data"]["versions"]
        assert all(form["destroyed"] for form in keys.values())
        assert "Destroyed the broker's master keys in Vault" in said


async def test_a_move_that_is_stopped_goes_on_where_it_stopped(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        """Somebody pressed Ctrl-C."""

    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            for slug in ("acme", "globex", "initech"):
                await world.key_for(slug)
            to = world.broker.keystores.chosen("vault-kv")
            original = type(to).rewrap
            done: list[bytes] = []

            async def stops(self: Any, sealed: bytes, *given: Any) -> Any:
                if len(done) == 3:
                    raise Stopped
                done.append(sealed)
                return await original(self, sealed, *given)

            with monkeypatch.context() as patch:
                patch.setattr(type(to), "rewrap", stops)
                with pytest.raises(Stopped):
                    await rewrap_all(world.services, to=to)
            counted = await held_by(world.services.parts.db)
            assert len(counted) >= 2, "some here, some there"
            for credential in (await world.call("GET", "/v1/credentials"))["items"]:
                assert credential
            moved = await rewrap_all(world.services, to=to)
            assert all(kek_id.startswith("kv/") or kek_id == INTERNAL_ROOT_KEK for kek_id in moved.held)


async def test_a_value_that_vault_gives_back_altered_stays_where_it_is(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.base.secret import Secret
    from broker.keystore.vault.kv import KvKeystore

    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            before = await sealed(world)

            async def other(*_given: Any) -> Secret:
                return Secret(b"something else")

            monkeypatch.setattr(KvKeystore, "open", other)
            done = await rewrap_all(world.services, to=world.broker.keystores.chosen("vault-kv"))
            assert any("stays where it is" in one.why for one in done.stuck)
            assert await sealed(world) == before


async def test_without_the_new_keystores_settings_the_command_says_so(tmp_path: Path, sqlite_url: str) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url)
        async with running_world(settings, state, url):
            pass
    done = await asyncio.to_thread(program, settings, "migrate", "--to", "vault-kv")
    assert done.returncode == 1
    assert "vault-kv is not set up; set the BROKER_VAULT_" in done.stderr


async def test_a_broker_with_rights_to_transit_alone_moves_there(tmp_path: Path, sqlite_url: str, server: Bao) -> None:
    root = server.root
    root.auth.approle.create_or_update_approle("transit-only", token_policies=["keybroker-transit"], token_ttl="10m")
    given = server.approle(root, tmp_path / "vault", "transit-only")
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **given)
        keys = settings.key_file().read_text()
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
        after = settings.model_copy(update={"keystore": "vault-transit"})
        done = await asyncio.to_thread(command, after, "migrate", "--to", "vault-transit")
        assert done.returncode == 0, done.stderr
        assert f"Destroyed {settings.key_file()}" in done.stdout
        assert "in Vault" not in done.stdout
        assert keys.splitlines()[-1] not in done.stdout + done.stderr


async def test_master_keys_in_the_environment_are_said_to_be_over(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any]
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        keys = MasterKeys.from_file(settings.key_file()).document()
        settings.key_file().unlink()
        (name, key), *_ = keys["keys"].items()
        more = {"BROKER_MASTER_KEYS": f"{name}:{key}", "BROKER_KEYSTORE": "vault-transit"}
        given = settings.model_copy(update={"master_keys": SecretStr(more["BROKER_MASTER_KEYS"])})
        async with running_world(given, state, url) as world:
            await world.key_for("acme")
        done = await asyncio.to_thread(program, settings, "migrate", "--to", "vault-transit", **more)
        assert done.returncode == 0, done.stderr
        assert "take it out of every broker's environment" in done.stdout
        assert key not in done.stdout + done.stderr


async def test_brokers_that_still_seal_the_old_way_are_named(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any]
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="local", **vault)
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            done = await asyncio.to_thread(command, settings, "migrate", "--to", "vault-transit")
            assert done.returncode == 1
            assert "BROKER_KEYSTORE=vault-transit on every broker" in done.stderr
            assert settings.key_file().exists()
            status = await asyncio.to_thread(command, settings, "status", "--json")
            assert "transit/keybroker/" in status.stdout
