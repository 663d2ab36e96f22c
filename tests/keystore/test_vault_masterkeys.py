"""The broker's master keys in OpenBao's KV: made once, never replaced, and missed as soon as they are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.local import MasterKeysUnusable
from broker.keystore.vault.values import Values
from broker.rewrap import rewrap_all
from tests.support import bao
from tests.support.bao import Bao
from tests.support.world import World, running_world, settings_for, upstream

PATH = "keybroker/broker/master-keys"


@pytest.fixture
def world(kv_world: World) -> World:
    return kv_world


async def ready(world: World) -> tuple[int, str]:
    answer = await world.http.get("/readyz")
    return answer.status_code, answer.json()["keystore"]


async def test_keys_that_vanish_are_missed_and_not_replaced(world: World, server: Bao) -> None:
    # given
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    kv = server.root.secrets.kv.v2
    kept = kv.read_secret_version(PATH, raise_on_deleted_version=True)["data"]["data"]
    # when
    kv.delete_metadata_and_all_versions(PATH)
    # then: probes tell, what is loaded still opens, and nothing new is sealed
    assert await ready(world) == (503, "gone")
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    await world.organization("globex")
    wanted = {"organization": "globex", "provider": "raptor-comply", "key": world.upstream_keys["globex"]}
    kv_keys = world.broker.keystores.kv_keys
    assert kv_keys is not None
    kv_keys._read_at = float("-inf")
    refused = await world.call("POST", "/v1/credentials", status=503, json=wanted)
    assert refused["cause"] == "gone"
    # and a restart makes none either
    with pytest.raises(KeystoreUnavailable, match="restore them from Vault's backup"):
        async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False):
            pass
    # and once they are restored, everything is well
    kv.create_or_update_secret(PATH, kept, cas=0)
    assert await ready(world) == (200, "ok")
    await world.call("POST", "/v1/credentials", status=201, json=wanted)


async def test_a_drop_that_was_interrupted_is_finished_by_the_next(
    world: World, server: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: an old key that nothing needs, and a Vault that goes away in the middle
    keys = world.broker.keystores.kv_keys
    assert keys is not None
    old = await keys.newest()
    await keys.rotate()
    await rewrap_all(world.services)

    async def away(*_given: Any) -> None:
        raise KeystoreUnavailable("Vault is away", cause="unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(Values, "destroy", away)
        with pytest.raises(KeystoreUnavailable):
            await keys.drop(old)
    # when
    await keys.drop(old)
    # then: no stored form has it any more
    versions = server.root.secrets.kv.v2.read_secret_metadata(PATH)["data"]["versions"]
    assert [versions[number]["destroyed"] for number in sorted(versions, key=int)] == [True, True, False]
    for wrong in (old, await keys.newest()):
        with pytest.raises(MasterKeysUnusable, match="not an inactive key here"):
            await keys.drop(wrong)


async def test_readiness_sees_a_mount_or_a_right_that_is_lost_and_needs_no_default_policy(
    tmp_path: Path, sqlite_url: str, server: Bao
) -> None:
    # given: a mount of its own, and a role that has the shipped policy alone
    root = server.root
    root.sys.enable_secrets_engine("kv", "fleeting", options={"version": "2"})
    server.wait(lambda: root.secrets.kv.v2.read_configuration(mount_point="fleeting"))
    rules = (bao.POLICIES / "keybroker-kv.hcl").read_text().replace('"secret/', '"fleeting/')
    root.sys.create_or_update_policy("fleeting", rules)
    root.auth.approle.create_or_update_approle(
        "fleeting", token_policies=["fleeting"], token_no_default_policy=True, token_ttl="10m"
    )
    given = server.approle(root, tmp_path / "vault", "fleeting")
    async with upstream() as (state, url):
        settings = settings_for(
            tmp_path, sqlite_url, url, keystore="vault-kv", vault_kv_mount="fleeting", vault_timeout=10, **given
        )
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            job = await world.job()
            await world.grant(job, "acme")
            lease = await job.lease("acme")
            assert await ready(world) == (200, "ok")
            # when a right is lost, of those that it needs beside the values themselves
            for part in ("data/keybroker/broker/master-keys", "destroy/keybroker/organizations/*"):
                root.sys.create_or_update_policy("fleeting", rules.replace(part, "nothing"))
                assert await ready(world) == (503, "permission")
            root.sys.create_or_update_policy("fleeting", rules)
            assert await ready(world) == (200, "ok")
            # when the mount is gone: nobody is told that the key was deleted
            root.sys.disable_secrets_engine("fleeting")
            assert await ready(world) == (503, "not_set_up")
            answer = await world.proxied(lease, "/facilities")
            assert (answer.status_code, answer.json()["cause"]) == (503, "not_set_up")
