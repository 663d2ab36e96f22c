"""How far the record was is kept in OpenBao too, and what a restored backup doesn't know of there is found."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from broker import app as composition
from broker import kv_audit, restored
from broker.audit.events import BROKER, Event
from broker.audit.unavailable import DatabaseBehind
from broker.base.clock import now_ms
from broker.base.errors import BrokerError
from broker.config import Settings
from broker.credentials.verification import Verdict
from broker.formats.head import Head
from broker.keystore_setup import values_as
from tests.support.bao import Bao
from tests.support.commands import MINIMAL, run
from tests.support.world import World, running_world, settings_for, upstream


def in_vault(server: Bao, world: World) -> Head:
    path = f"keybroker/broker/heads/{world.services.parts.keys.database_id}"
    found = server.root.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True)
    return Head.decode(found["data"]["data"]["head"])


def backup_of(settings: Settings) -> Path:
    """A copy of the database, which no broker has open."""
    source = Path(settings.database().removeprefix("sqlite+aiosqlite:///"))
    return Path(shutil.copy(source, source.with_name("backup.db")))


def restored_to(settings: Settings, backup: Path, **changes: Any) -> Settings:
    url = SecretStr(f"sqlite+aiosqlite:///{shutil.copy(backup, backup.with_name('back.db'))}")
    return settings.model_copy(update={"database_url": url, **changes})


@pytest.mark.parametrize("keystore", ["vault-kv", "vault-transit"])
async def test_a_host_that_kept_nothing_itself_learns_from_vault_that_the_database_is_behind(
    keystore: str, server: Bao, vault: dict[str, Any], tmp_path: Path, sqlite_url: str
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore=keystore, **vault)
        settings.key_file().unlink()
        async with running_world(settings, state, url):
            pass
        backup = backup_of(settings)
        async with running_world(settings, state, url, bootstrap=False) as world:
            await world.broker.worker.election.holds()
            await world.services.parts.audit.append(an_event())
            await world.broker.heads.look(world.services.parts.audit, world.broker.worker.election)
            assert in_vault(server, world).size > 0
        elsewhere = restored_to(settings, backup, state_dir=tmp_path / "another host")
        with pytest.raises(DatabaseBehind, match="was restored from a backup"):
            async with composition.running(elsewhere):
                raise AssertionError("it is served")


def an_event() -> Event:
    return Event(kind="audit.read", time=now_ms(), actor=BROKER)


async def test_a_vault_that_forbids_it_stops_nothing(
    server: Bao, vault: dict[str, Any], tmp_path: Path, sqlite_url: str
) -> None:
    server.root.sys.create_or_update_policy(
        "without-heads", Path("deploy/vault/keybroker-kv.hcl").read_text().partition("# How far the record")[0]
    )
    server.root.auth.approle.create_or_update_approle("without-heads", token_policies=["without-heads"])
    signed_in = server.approle(server.root, tmp_path / "forbidden", "without-heads")
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-kv", **{**vault, **signed_in})
        settings.key_file().unlink()
        async with running_world(settings, state, url) as world:
            await world.broker.worker.election.holds()
            await world.broker.heads.look(world.services.parts.audit, world.broker.worker.election)
            await world.key_for("acme")
            assert world.services.parts.audit.closed is None


async def rotated(world: World, credential: str, slug: str) -> None:
    """A new key over a link; the old one is kept for a while."""
    _, intake, secret = await world.rotate(credential)
    assert (await world.submit(intake, secret, world.new_key(slug))).status_code == 200


def audited(settings: Settings, token_file: Path, *more: str) -> list[dict[str, str]]:
    """What ``broker keystore audit`` prints."""
    given = {
        "BROKER_STATE_DIR": settings.state_dir,
        "BROKER_DATABASE_URL": settings.database(),
        "BROKER_PROVIDERS_DIR": settings.providers_dir,
        "BROKER_KEYSTORE": settings.keystore,
        "BROKER_VAULT_URL": settings.vault_url,
        "BROKER_VAULT_AUTH": settings.vault_auth,
        "BROKER_VAULT_ROLE_ID": settings.vault_role_id,
        "BROKER_VAULT_SECRET_ID_FILE": settings.vault_secret_id_file,
    }
    environment = {**MINIMAL, **{name: str(value) for name, value in given.items()}}
    done = run("keystore", "audit", "--token-file", str(token_file), "--json", *more, environment=environment)
    assert done.returncode == 1, done.stderr  # some are left
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


async def test_what_a_backup_does_not_know_of_is_found_in_vault_and_attached_or_destroyed(
    server: Bao, vault: dict[str, Any], tmp_path: Path, sqlite_url: str
) -> None:
    """Two keys that were rotated after the backup, and one of a customer who came after it."""
    token_file = tmp_path / "auditor"
    token = server.root.auth.token.create(policies=["keybroker-audit"])["auth"]["client_token"]
    token_file.write_text(token)
    token_file.chmod(0o600)
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-kv", **vault)
        settings.key_file().unlink()
        async with running_world(settings, state, url) as world:
            first, second = await world.key_for("acme"), await world.key_for("zeta")
            admin = world.admin
        backup, since = backup_of(settings), now_ms()
        async with running_world(settings, state, url, bootstrap=False) as world:
            world.admin = admin
            await rotated(world, first, "acme")
            await rotated(world, second, "zeta")
            await world.key_for("late")
            # Others' tests have theirs in the same server.
            mine = {made["id"] for made in (await world.call("GET", "/v1/organizations"))["items"]}
        back = restored_to(settings, backup)
        async with composition.running(back, restored=True) as broker:
            await restored.go_on(broker, await restored.size(broker.services.parts.db), since)
        async with (
            running_world(back, state, url, bootstrap=False) as world,
            values_as(back, token_file) as listing,
        ):
            world.admin = admin
            db, values = world.services.parts.db, world.broker.keystores.values
            assert values is not None
            found = {
                one.customer: one async for one in kv_audit.orphans(db, values, listing) if one.organization in mine
            }
            assert set(found) == {"acme", "zeta", "late"}
            # As a command lists them; without a word of what to do, nothing is done.
            listed = await asyncio.to_thread(audited, back, token_file)
            assert {row["customer"] for row in listed if row["customer"] in found} == set(found)
            assert {row["state"] for row in listed} == {"left"}
            # One is taken as the new key of a rotation: both keys are kept, as after a rotation over a link.
            assert await kv_audit.attach(world.broker, values, found["acme"]) is Verdict.ACTIVE
            versions = await world.versions(first)
            assert [version["state"] for version in versions] == ["retiring", "active"]
            # The customer of another is unknown here: nothing is taken.
            with pytest.raises(BrokerError, match="customer is unknown"):
                await kv_audit.attach(world.broker, values, found["late"])
            zeta = f"{found['zeta'].path}:{found['zeta'].number}"
            done = await asyncio.to_thread(audited, back, token_file, "--do", "destroy", "--only", zeta, "--yes")
            assert {row["value"]: row["state"] for row in done}[zeta] == "destroyed"
            await kv_audit.destroy(world.broker, values, found["late"])
            assert [one async for one in kv_audit.orphans(db, values, listing) if one.organization in mine] == []
            events = await world.events(kind="keystore.*")
            kinds = [event["core"]["kind"] for event in events if "orphan" in event["core"]["kind"]]
            assert kinds == ["keystore.orphan_attached", "keystore.orphan_destroyed", "keystore.orphan_destroyed"]
