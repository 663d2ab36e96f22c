"""A KV mount that deletes values by itself gets none, and a key that is gone from it is missed, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from broker import app as composition
from broker.base.db import EVERY_TENANT
from broker.credentials.tables import VersionRow
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault import values
from tests.support.bao import Bao
from tests.support.world import World, running_world, settings_for, upstream

MASTER_KEYS = "keybroker/broker/master-keys"


@pytest.fixture
def world(kv_world: World) -> World:
    return kv_world


@contextmanager
def forgetting(server: Bao, after: str = "90m") -> Iterator[None]:
    """The mount deletes what is put there in this time."""
    server.root.adapter.post("/v1/secret/config", json={"delete_version_after": after})
    try:
        yield
    finally:
        server.root.adapter.post("/v1/secret/config", json={"delete_version_after": "0s"})


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a mount keeps values is tried whenever somebody asks."""
    monkeypatch.setattr(values, "_KEPT_S", 0)
    monkeypatch.setattr(values, "_AGAIN_S", 0)


def versions_at(server: Bao, path: str) -> dict[str, Any]:
    return dict(server.root.secrets.kv.v2.read_secret_metadata(path)["data"]["versions"])


def destroyed(server: Bao, path: str) -> list[bool]:
    there = versions_at(server, path)
    return [there[number]["destroyed"] for number in sorted(there, key=int)]


async def path_of(world: World, credential: str) -> str:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        row = await session.scalar(select(VersionRow).where(VersionRow.credential_id == credential))
    assert row is not None
    return f"keybroker/organizations/{row.organization_id}/{row.provider}/{credential}"


async def ready(world: World) -> tuple[int, str]:
    answer = await world.http.get("/readyz")
    return answer.status_code, answer.json()["keystore"]


async def notices(world: World, kind: str) -> list[dict[str, Any]]:
    found = await world.call("GET", "/v1/notices")
    return [notice for notice in found["items"] if notice["kind"] == kind]


async def test_a_key_that_would_be_deleted_is_not_kept_and_its_value_is_destroyed(world: World, server: Bao) -> None:
    credential = await world.key_for("acme")
    _, intake, secret = await world.rotate(credential)
    fresh = world.new_key("acme")
    with forgetting(server):
        refused = await world.submit(intake, secret, fresh)
    assert (refused.status_code, refused.json()["cause"]) == (503, "deletes")
    assert "delete_version_after" in refused.json()["detail"]
    assert destroyed(server, await path_of(world, credential)) == [False, True]
    assert await ready(world) == (503, "deletes"), "known from the put, until a try succeeds"
    # then: the link is not spent, and nothing stands in the way of the next
    assert (await world.submit(intake, secret, fresh)).json()["state"] == "accepted"
    assert await ready(world) == (200, "ok")
    await world.work(seconds=61)
    assert destroyed(server, await path_of(world, credential)) == [False, True, False]


@pytest.mark.usefixtures("at_once")
async def test_readiness_and_doctor_say_it_before_anything_is_kept(world: World, server: Bao) -> None:
    assert await ready(world) == (200, "ok")
    with forgetting(server):
        assert await ready(world) == (503, "deletes")
        assert (await world.http.get("/readyz?need=database")).status_code == 200
        with pytest.raises(KeystoreUnavailable, match="delete_version_after"):  # which is what doctor asks, and says
            await world.services.parts.keystore.check()
    assert await ready(world) == (200, "ok")
    assert all(destroyed(server, "keybroker/organizations/probe/probe/probe")), "tries leave nothing"


async def test_a_broker_says_it_when_it_starts(world: World, server: Bao) -> None:
    with forgetting(server), capture_logs() as said:
        async with composition.running(world.settings):
            pass
    (told,) = [line for line in said if line["event"] == "keystore.not_ready"]
    assert (told["log_level"], told["cause"]) == ("error", "deletes")
    assert "delete_version_after" in told["mend"]


async def test_a_new_broker_begins_with_no_master_key_that_would_be_deleted(
    tmp_path: Path, sqlite_url: str, vault: dict[str, Any], server: Bao
) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-kv", **vault)
        settings.key_file().unlink()
        with forgetting(server), pytest.raises(KeystoreUnavailable, match="delete_version_after"):
            async with running_world(settings, state, url, bootstrap=False):
                pass
        assert all(destroyed(server, MASTER_KEYS))
        async with running_world(settings, state, url) as world:
            assert await ready(world) == (200, "ok")


async def test_a_rotation_of_master_keys_that_is_refused_leaves_those_from_before(world: World, server: Bao) -> None:
    keys = world.broker.keystores.kv_keys
    assert keys is not None
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    before = await keys.newest()
    with forgetting(server), pytest.raises(KeystoreUnavailable, match="delete_version_after"):
        await keys.rotate()
    assert destroyed(server, MASTER_KEYS) == [False, True]
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as another:
        assert (await another.proxied(lease, "/facilities")).status_code == 200
    assert await keys.rotate() != before
    await keys.drop(before)
    assert destroyed(server, MASTER_KEYS) == [True, True, True, False]
    assert await ready(world) == (200, "ok")


async def test_master_keys_that_will_be_deleted_are_said_before_they_are(world: World, server: Bao) -> None:
    # given: master keys that an older version of the broker put into such a mount
    kv = server.root.secrets.kv.v2
    kept = kv.read_secret_version(MASTER_KEYS, raise_on_deleted_version=True)["data"]["data"]
    with forgetting(server):
        kv.create_or_update_secret(MASTER_KEYS, kept, cas=1)
    with pytest.raises(KeystoreUnavailable, match="master keys, at secret/keybroker/broker/master-keys"):
        await world.services.parts.keystore.check()
    assert await ready(world) == (503, "deletes")
    # when they are put there again
    assert world.broker.keystores.kv_keys is not None
    await world.broker.keystores.kv_keys.rotate()
    assert await ready(world) == (200, "ok")


async def test_a_key_that_is_gone_shows_and_is_told_once_until_it_is_back(world: World, server: Bao) -> None:
    credential = await world.key_for("acme")
    path = await path_of(world, credential)
    kv = server.root.secrets.kv.v2
    kv.delete_latest_version_of_secret(path)
    # when nobody uses it, then the daily check finds it, and those that follow tell nobody again
    for hours in (30, 1, 30):
        await world.work(hours=hours)
    (version,) = await world.versions(credential)
    assert (version["state"], version["health"]) == ("active", "gone")
    (told,) = await notices(world, "key_gone")
    assert (told["credential"], told["severity"]) == (credential, "urgent")
    assert len(await world.events(kind="credential.version.gone")) == 1
    listed = await world.call("GET", "/v1/credentials", params={"only": "gone"})
    assert [one["id"] for one in listed["items"]] == [credential]
    # and when it is restored, it shows
    kv.undelete_secret_versions(path, [1])
    await world.work(hours=2)
    assert (await world.versions(credential))[0]["health"] == "healthy"
    assert len(await notices(world, "key_recovered")) == 1


async def test_a_revoked_key_that_is_gone_before_its_revocation_is_confirmed_is_told_too(
    world: World, server: Bao
) -> None:
    credential = await world.key_for("acme")
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "left"})
    server.root.secrets.kv.v2.delete_latest_version_of_secret(await path_of(world, credential))
    for hours in (30, 30):
        await world.work(hours=hours)
    assert (await world.versions(credential))[0]["health"] == "gone"
    assert len(await notices(world, "key_gone")) == 1


async def test_uses_that_meet_a_key_which_is_gone_tell_it_once(world: World, server: Bao) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    lease = await job.lease("acme")
    server.root.secrets.kv.v2.delete_latest_version_of_secret(await path_of(world, credential))
    for _ in range(3):
        answer = await world.proxied(lease, "/facilities")
        assert (answer.status_code, answer.json()["cause"]) == (503, "gone")
    assert (await job.ask("acme", mode="reveal")).status_code == 503
    assert (await world.versions(credential))[0]["health"] == "gone"
    assert len(await notices(world, "key_gone")) == 1


async def test_master_keys_that_are_gone_are_not_taken_for_customers_keys(world: World, server: Bao) -> None:
    credential = await world.key_for("acme")
    server.root.secrets.kv.v2.delete_latest_version_of_secret(MASTER_KEYS)
    assert world.broker.keystores.kv_keys is not None
    world.broker.keystores.kv_keys._local = None
    await world.work(hours=30)
    assert (await world.versions(credential))[0]["health"] == "healthy"
    assert await notices(world, "key_gone") == []
