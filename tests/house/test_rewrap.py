"""Moving to a new master key, online."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary

from broker.base.secret import Secret
from broker.keystore.columns import sealed_columns
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.local import MasterKeys, MasterKeysUnusable
from broker.rewrap import held_by, rewrap_all
from broker.tables import METADATA
from tests.support.world import World, running_world

# Bytes that hide nothing, or that can't be turned back.
_NOT_SEALED = {
    *(f"audit_events.{name}" for name in ("core", "personal", "salt_core", "salt_personal", "entry")),
    "audit_places.places",
    "bootstrap.token_hash",
    "intakes.proof_hash",
    "intakes.public_key",
    "keystore_strays.reference",
    "operators.previous_token_hash",
    "operators.token_hash",
    "workloads.secret_hash",
}


def test_every_column_of_sealed_bytes_declares_itself() -> None:
    """One that didn't would be stranded when the old master key is dropped."""
    declared = {f"{one.table.__tablename__}.{one.sealed.key}": one.own for one in sealed_columns()}
    assert declared == {
        "credential_versions.sealed": False,
        "idempotency.answer_sealed": False,
        "intakes.link_key": True,
        "intakes.private_sealed": False,
        "intakes.status_key": True,
        "internal_keys.sealed": False,
        "signing_keys.sealed": False,
        "webhooks.previous_sealed": False,
        "webhooks.secret_sealed": False,
        "webhooks.url_sealed": False,
    }
    every = {
        f"{table.name}.{column.name}"
        for table in METADATA.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name != "row_mac"
    }
    assert every - declared.keys() == _NOT_SEALED


async def test_everything_moves_to_the_new_key_while_jobs_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # read page by page, however many there are
    monkeypatch.setattr("broker.rewrap._PAGE", 1)
    # given keys, an open intake, an idempotent answer and a job at work
    await world.key_for("acme")
    await world.key_for("globex")
    await world.organization("initech")
    intake, secret = await world.request_key("initech")
    slug = {"slug": "umbrella", "name": "Umbrella"}
    headers = {"Idempotency-Key": "once"}
    first = await world.call("POST", "/v1/organizations", status=201, json=slug, headers=headers)
    job = await world.job()
    await world.grant(job, "acme", "globex")
    lease = await job.lease("acme")
    path = world.settings.key_file()
    old = MasterKeys.from_file(path)
    fresh = old.with_new_key()
    fresh.write_file(path)

    async def works() -> None:
        for _ in range(15):
            assert (await world.proxied(lease, "/facilities")).status_code == 200

    # when everything is re-wrapped meanwhile
    done, _ = await asyncio.gather(rewrap_all(world.services), works())
    # then nothing needs the old key, and it can go
    assert set(done.held) == {fresh.active}
    assert done.held[fresh.active] >= 6
    fresh.without(old.active).write_file(path)
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert (await job.ask("globex")).status_code == 201
    again = await world.call("POST", "/v1/organizations", status=201, json=slug, headers=headers)
    assert again == first
    assert (await world.submit(intake, secret, world.upstream_keys["initech"])).json()["state"] == "accepted"
    assert len(await world.events(kind="keystore.rewrapped")) == 1
    # and a restart finds everything
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as restarted:
        restarted.admin = world.admin
        assert (await restarted.proxied(lease, "/facilities")).status_code == 200


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


async def test_running_again_goes_on_where_it_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.key_for("acme")
    await world.key_for("globex")
    path = world.settings.key_file()
    MasterKeys.from_file(path).with_new_key().write_file(path)
    original = type(world.services.parts.keystore).rewrap
    done: list[bytes] = []

    async def stops(self: Any, sealed: bytes, *given: Any) -> Any:
        if len(done) == 2:
            raise Stopped
        done.append(sealed)
        return await original(self, sealed, *given)

    with monkeypatch.context() as patch:
        patch.setattr(type(world.services.parts.keystore), "rewrap", stops)
        with pytest.raises(Stopped):
            await rewrap_all(world.services)
    counted = await held_by(world.services.parts.db)
    assert len(counted) == 2
    assert set((await rewrap_all(world.services)).held) == {MasterKeys.from_file(path).active}


async def test_without_its_master_key_a_database_is_refused_not_replaced(world: World, tmp_path: Path) -> None:
    await world.key_for("acme")
    path = world.settings.key_file()
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(MasterKeysUnusable, match="restore the file from your backup"):
        async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False):
            pass
    assert not path.exists(), "no new key is made over existing data"
    MasterKeys({}, "").with_new_key().write_file(path)
    with pytest.raises((CannotOpen, KeystoreUnavailable)):
        async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False):
            pass
    path.write_bytes(kept)


def test_a_secret_does_not_print() -> None:
    secret = Secret("rc_live_canary")
    assert "canary" not in f"{secret} {secret!r} {secret!s} {[secret]} {secret:>20}"
