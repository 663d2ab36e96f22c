"""Moving to a new master key, online."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, event, select, update

from broker.audit.tables import PackedCore
from broker.base.db import EVERY_TENANT, Database
from broker.base.secret import Secret
from broker.credentials.tables import VersionRow
from broker.keystore.columns import sealed_columns
from broker.keystore.keyring import kek_of
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.local import MasterKeys, MasterKeysUnusable
from broker.rewrap import _PAGES, _Column, _Moving, held_by, note, rewrap_all, used
from broker.tables import METADATA
from broker.web.tables import IdempotencyRow
from tests.support.sent import plan_of
from tests.support.world import World, running_world

# Bytes that hide nothing, or that can't be turned back.
_NOT_SEALED = {
    *(f"audit_events.{name}" for name in ("core", "personal", "salt_core", "personal_commitment", "entry")),
    "audit_archives.root",
    "audit_checkpoint.note",
    "audit_checkpoint.root",
    "audit_cosigned.note",
    "audit_organization_heads.edge",
    "audit_organizations.edge",
    "audit_places.places",
    "audit_pruned.places",
    "audit_subjects.wrapped",  # under the internal root, with which it moves
    "audit_tiles.hashes",
    "bootstrap.token_hash",
    "certificates.note",
    "device_sign_ins.code_hash",
    "device_sign_ins.secret_hash",
    "intakes.proof_hash",
    "intakes.public_key",
    "keystore_strays.reference",
    "operators.previous_token_hash",
    "one_time_links.secret_hash",
    "operators.token_hash",
    "passkeys.credential_id",
    "passkeys.public_key",
    "sessions.token_hash",
    "used_ceremonies.challenge",
    "pending_sign_ins.seal",
    "pending_sign_ins.state_hash",
    "workloads.secret_hash",
}


def test_every_column_of_sealed_bytes_declares_itself() -> None:
    """One that didn't would be stranded when the old master key is dropped."""
    declared = {f"{one.table.__tablename__}.{one.sealed.key}": one.own for one in sealed_columns()}
    assert declared == {
        "credential_versions.sealed": False,
        "idempotency.answer_sealed": False,
        "identity_rechecks.sealed": True,
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
        if isinstance(column.type, LargeBinary | PackedCore) and column.name != "row_mac"
    }
    assert every - declared.keys() == _NOT_SEALED


async def test_everything_moves_to_the_new_key_while_jobs_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # read page by page, however many there are
    monkeypatch.setattr("broker.rewrap._PAGES", {"sqlite": 1, "postgresql": 1})
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
        # and reads who did what before
        assert all(event["personal"] is not None for event in await restarted.events())


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
    fresh = MasterKeys.from_file(path).active
    counted = await held_by(world.services.parts.db)
    assert counted[fresh] == 2
    assert len(counted) == 2
    # and nothing of what is done is looked at again
    opened: list[bytes] = []

    async def counts(self: Any, sealed: bytes, *given: Any) -> Any:
        opened.append(sealed)
        return await original(self, sealed, *given)

    monkeypatch.setattr(type(world.services.parts.keystore), "rewrap", counts)
    assert set((await rewrap_all(world.services)).held) == {fresh}
    assert len(opened) == sum(counted.values()) - 2


async def test_values_are_moved_by_pages_and_the_bar_begins_with_their_number(world: World) -> None:
    await answers(world, 600)
    path = world.settings.key_file()
    MasterKeys.from_file(path).with_new_key().write_file(path)
    shown: list[tuple[int, int]] = []
    done = await rewrap_all(world.services, advance=lambda moved, total: shown.append((moved, total)))
    # then
    page = _PAGES[world.services.parts.db.dialect]
    moved = [after - before for (before, _), (after, _) in pairwise(shown)]
    assert max(moved) == page
    assert moved.count(page) == 600 // page
    assert 600 < done.moved.total() == shown[0][1] == shown[-1][0]
    assert shown[0][0] == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_row_that_somebody_is_busy_with_is_not_waited_for(world: World) -> None:
    busy, other = await world.key_for("acme"), await world.key_for("globex")
    path = world.settings.key_file()
    MasterKeys.from_file(path).with_new_key().write_file(path)
    query = select(VersionRow).where(VersionRow.credential_id.in_([busy, other])).order_by(VersionRow.credential_id)
    moving = _Moving(world.services, world.services.parts.keystore, lambda _moved, _total: None)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        mine = (await session.scalars(query.where(VersionRow.credential_id == busy).with_for_update())).one()
        assert await moving.once(), "to be looked at again"
        async with world.services.parts.db.read(EVERY_TENANT) as reader:
            seen = {row.credential_id: row.sealed for row in await reader.scalars(query)}
    assert seen[busy] == mine.sealed
    assert kek_of(seen[other] or b"") == MasterKeys.from_file(path).active
    assert len((await rewrap_all(world.services)).held) == 1


async def test_a_value_that_changed_between_being_read_and_stored_is_left_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    path = world.settings.key_file()
    MasterKeys.from_file(path).with_new_key().write_file(path)
    original = type(world.services.parts.keystore).rewrap

    async def destroyed_meanwhile(self: Any, sealed: bytes, *given: Any) -> Any:
        made = await original(self, sealed, *given)
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            gone = update(VersionRow).where(VersionRow.credential_id == credential).values(sealed=None)
            await session.execute(gone)
        return made

    monkeypatch.setattr(type(world.services.parts.keystore), "rewrap", destroyed_meanwhile)
    await rewrap_all(world.services)
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert list(await session.scalars(select(VersionRow.sealed))) == [None]


async def test_pages_come_by_the_key_of_their_table(world: World) -> None:
    for place in sealed_columns():
        column = _Column(place, "newest", 1, in_kv=False)
        plan = await plan_of(world.services.parts.db, column.page(place.sealed, None).limit(250))
        name = place.table.__tablename__
        assert "Seq Scan" not in plan, plan
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan
        assert f"pk_{name}" in plan or "sqlite_autoindex" in plan, plan


async def test_which_keystores_were_needed_is_not_asked_of_the_record(world: World) -> None:
    await note(world.services, "keystore.rewrap_begun", {"vault-kv", "vault-transit"})
    await note(world.services, "keystore.master_keys_destroyed", {"vault-transit"})
    asked: list[str] = []
    db = Database(world.settings.database())  # that nobody else asks anything of
    event.listen(db.engine.sync_engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert await used(db) == {"local", "vault-kv"}
    await db.close()
    assert asked
    assert not any("audit_events" in text for text in asked)


async def answers(world: World, number: int) -> None:
    """So many answers that are kept for repeats, each sealed for real."""
    rows = [
        IdempotencyRow(principal_id="p", key=f"{n:04d}", request_hash="", status=200, expires_at=world.clock() + 10**6)
        for n in range(number)
    ]
    for row in rows:
        row.answer_sealed = await world.services.parts.keystore.seal(Secret(b"answer"), row.binding)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        session.add_all(rows)


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
