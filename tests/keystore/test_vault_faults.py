"""What a real OpenBao that is sealed, stopped, frozen or stricter does to a broker, and that it needs no restart."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker import keystore_setup
from broker.keystore.cached import Cached
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.login import AppRole
from broker.keystore.vault.server import Address, Vault
from tests.support import bao
from tests.support.waiting import eventually
from tests.support.world import Job, World, running_world, settings_for, upstream

KEYSTORES = ["vault-transit", "vault-kv"]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bao.Bao]:
    """A server of its own: these tests take it down."""
    with bao.running(tmp_path_factory.mktemp("victim")) as made:
        made.set_up()
        yield made


class VaultBench:
    """A broker over the victim, with one job that may use and see acme's key."""

    def __init__(self, world: World, job: Job, lease: dict[str, Any]) -> None:
        self.world, self.job, self.lease = world, job, lease

    async def use(self) -> tuple[int, str]:
        """One call; its status and the cause of a refusal."""
        answer = await self.world.proxied(self.lease, "/facilities")
        body = answer.json()
        if answer.status_code == 503:
            assert body["code"] == "keystore_unavailable"
            assert answer.headers["content-type"] == "application/problem+json"
            assert self.world.upstream_keys["acme"] not in answer.text
        return answer.status_code, body.get("cause", "") if isinstance(body, dict) else ""

    async def ready(self) -> tuple[int, str]:
        """The probe's status, and what it says of the keystore."""
        answer = await self.world.http.get("/readyz")
        return answer.status_code, answer.json()["keystore"]

    async def recovers(self) -> None:
        """Works again by itself."""
        await eventually(self.works)

    async def works(self) -> bool:
        """Whether it does now."""
        return (await self.use())[0] == 200 and await self.ready() == (200, "ok")


@asynccontextmanager
async def staffed(directory: Path, database_url: str, victim: bao.Bao, **more: Any) -> AsyncIterator[VaultBench]:
    given = victim.approle(victim.root, directory / "vault")
    async with upstream() as (state, url):
        settings = settings_for(directory, database_url, url, audit_deadline=20.0, **given, **more)
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            job = await world.job()
            await world.grant(job, "acme", modes=("use", "reveal"))
            yield VaultBench(world, job, await job.lease("acme"))


@pytest.fixture(params=KEYSTORES)
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, victim: bao.Bao
) -> AsyncIterator[VaultBench]:
    """A bench that waits for an answer which is late because the machine is busy."""
    async with staffed(tmp_path, sqlite_url, victim, keystore=request.param, vault_timeout=10.0) as made:
        yield made


@pytest.fixture(params=KEYSTORES)
async def hasty(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, victim: bao.Bao
) -> AsyncIterator[VaultBench]:
    """A bench that soon gives up waiting, whose one job may have every slot."""
    more = {"keystore": request.param, "vault_timeout": 1.0, "proxy_share": 1}
    async with staffed(tmp_path, sqlite_url, victim, **more) as made:
        yield made


async def test_sealed(bench: VaultBench, victim: bao.Bao) -> None:
    await asyncio.to_thread(victim.seal)
    try:
        assert await bench.use() == (503, "sealed")
        assert await bench.ready() == (503, "sealed")
        # what needs no key goes on: a lease that is used later, and a revocation
        assert (await bench.job.ask("acme")).status_code == 201
        answer = await bench.job.ask("acme", mode="reveal")
        assert (answer.status_code, answer.json()["cause"]) == (503, "sealed")
        assert answer.headers["retry-after"] == "2"
    finally:
        await asyncio.to_thread(victim.unseal)
    await bench.recovers()


async def test_down_and_started_again(bench: VaultBench, victim: bao.Bao) -> None:
    await asyncio.to_thread(victim.stop)
    try:
        assert await bench.use() == (503, "unreachable")
        assert await bench.ready() == (503, "unreachable")
        # what takes a key back, or asks for one, waits for no Vault
        world = bench.world
        credential = (await world.call("GET", "/v1/credentials"))["items"][0]["id"]
        once, cut = {"Idempotency-Key": "cut"}, f"/v1/credentials/{credential}/versions/1/revoke"
        for _ in range(2):
            assert (await world.call("POST", cut, json={"reason": "x"}, headers=once))["state"] == "revoked"
        await world.organization("globex")
        intake, secret = await world.request_key("globex")
        assert (await world.open(intake, secret)).json()["state"] == "open"
        refused = await world.submit(intake, secret, world.upstream_keys["globex"])
        assert (refused.status_code, refused.json()["code"]) == (503, "keystore_unavailable")
    finally:
        await asyncio.to_thread(victim.start)
        assert await bench.world.http.get("/healthz")

    # while it is back but sealed
    async def is_ready(*expected: object) -> bool:
        return await bench.ready() == expected

    await eventually(lambda: is_ready(503, "sealed"))
    await asyncio.to_thread(victim.unseal)
    await eventually(lambda: is_ready(200, "ok"))


async def test_frozen_costs_a_bounded_wait_and_bounded_threads(hasty: VaultBench, victim: bao.Bao) -> None:
    victim.freeze()
    try:
        # a first few find out, within the deadline
        began = time.monotonic()
        assert await hasty.use() == (503, "slow")
        first = time.monotonic() - began
        # many at once: none waits longer than the deadline, and no thread is made for each
        began = time.monotonic()
        answers = await asyncio.gather(*(hasty.use() for _ in range(300)))
        many = time.monotonic() - began
        assert {status for status, _ in answers} == {503}
        assert {cause for _, cause in answers} <= {"slow", "busy"}
        assert sum(thread.name.startswith("vault") for thread in threading.enumerate()) <= 16
        # then the breaker answers at once
        began = time.monotonic()
        later = [await hasty.use() for _ in range(10)]
        assert {status for status, _ in later} == {503}
        assert time.monotonic() - began < max(first, many) * 3
        assert (await hasty.ready())[1] in {"slow", "busy"}
    finally:
        victim.thaw()
    await hasty.recovers()


async def test_permission_lost_and_given_back(bench: VaultBench, victim: bao.Bao) -> None:
    root = victim.root
    names = ["keybroker-transit", "keybroker-kv"]
    kept = {name: root.sys.read_policy(name)["data"]["rules"] for name in names}
    for name in names:
        root.sys.create_or_update_policy(name, 'path "nothing" { capabilities = ["read"] }')
    try:
        assert await bench.use() == (503, "permission")
        assert await bench.ready() == (503, "permission")
    finally:
        for name, rules in kept.items():
            root.sys.create_or_update_policy(name, rules)
    await bench.recovers()


async def test_a_token_that_was_revoked_is_replaced_without_a_word(bench: VaultBench, victim: bao.Bao) -> None:
    """Revoked or expired is the same to a client: 403 before any policy."""
    for accessor in victim.root.list("auth/token/accessors")["data"]["keys"]:
        found = victim.root.auth.token.lookup_accessor(accessor)["data"]
        if found["path"] == "auth/approle/login":
            victim.root.auth.token.revoke_accessor(accessor)
    answers = await asyncio.gather(*(bench.use() for _ in range(20)))
    assert {status for status, _ in answers} == {200}


async def test_neither_token_nor_sign_in_holds(bench: VaultBench, victim: bao.Bao) -> None:
    root = victim.root
    root.auth.approle.delete_role("keybroker")
    root.sys.list_auth_methods()
    for accessor in root.list("auth/token/accessors")["data"]["keys"]:
        if root.auth.token.lookup_accessor(accessor)["data"]["path"] == "auth/approle/login":
            root.auth.token.revoke_accessor(accessor)
    try:
        assert await bench.use() == (503, "token")
        assert await bench.ready() == (503, "token")
    finally:
        root.auth.approle.create_or_update_approle(
            "keybroker", token_policies=["keybroker-transit", "keybroker-kv"], token_ttl="1h"
        )
        settings = bench.world.settings
        root.auth.approle.update_role_id("keybroker", settings.vault_role_id)
        assert settings.vault_secret_id_file is not None
        fresh = root.auth.approle.generate_secret_id("keybroker")["data"]["secret_id"]
        settings.vault_secret_id_file.write_text(fresh)
    await bench.recovers()


@pytest.mark.parametrize("keystore", KEYSTORES)
async def test_a_cache_that_was_asked_for_bridges_an_absence_for_its_time_only(
    keystore: str, tmp_path: Path, sqlite_url: str, victim: bao.Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = 0.0
    monkeypatch.setattr(keystore_setup, "Cached", partial(Cached, clock=lambda: time.monotonic() + later))
    given = victim.approle(victim.root, tmp_path / "vault")
    async with upstream() as (state, url):
        settings = settings_for(
            tmp_path, sqlite_url, url, keystore=keystore, keystore_cache_seconds=600, vault_timeout=10, **given
        )
        async with running_world(settings, state, url) as world:
            credential = await world.key_for("acme")
            job = await world.job()
            await world.grant(job, "acme")
            bench = VaultBench(world, job, await job.lease("acme"))
            assert await bench.use() == (200, "")
            await asyncio.to_thread(victim.seal)
            try:
                assert await bench.use() == (200, ""), "within its time"
                assert (await bench.ready())[1] == "sealed", "the probe tells all the same"
                # not beyond it
                later = 600
                assert await bench.use() == (503, "sealed")
                # and what is kept does not outlive a revocation
                await asyncio.to_thread(victim.unseal)
                await bench.recovers()
                await asyncio.to_thread(victim.seal)
                await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={"reason": "x"})
                assert (await bench.use())[0] in {403, 409, 410}
            finally:
                await asyncio.to_thread(victim.unseal)


async def test_a_standby_sends_the_call_on(tmp_path: Path) -> None:
    """Two nodes of one raft cluster: asked at the standby, which forwards, and which redirects where it may not."""
    # on a busy machine a node of a hasty cluster would lose its place to the other
    one = bao.Bao(tmp_path / "one", node="one", patience=3)
    two = bao.Bao(tmp_path / "two", node="two", patience=3)
    try:
        await asyncio.to_thread(one.start)
        await asyncio.to_thread(one.initialise)
        client = await asyncio.to_thread(one.set_up)
        given = one.approle(client, tmp_path)
        await asyncio.to_thread(two.start)
        two.unseal_key, two.root_token = one.unseal_key, one.root_token
        await asyncio.to_thread(two.join, one)
        login = AppRole("approle", given["vault_role_id"], given["vault_secret_id_file"])
        vault = Vault(Address(two.url), login, connections=2, timeout=5)

        def asked() -> Any:
            return vault.call(lambda c: c.secrets.transit.read_key("keybroker"))

        assert (await asked())["data"]["derived"] is True
        redirected = {"X-Vault-No-Request-Forwarding": "true"}
        await vault.call(lambda c: c.adapter.session.headers.update(redirected))
        assert (await asked())["data"]["derived"] is True
        # and: the leader gives up its place, and the one that was asked goes on
        causes: set[str] = set()
        one.root.sys.step_down()
        for _ in range(100):
            try:
                assert (await asked())["data"]["derived"] is True
                break
            except KeystoreUnavailable as away:
                causes.add(away.cause)
                await asyncio.sleep(0.2)
        else:
            raise AssertionError("no node took over")
        assert causes <= {"standby", "failing", "unreachable", "slow"}
        await vault.close()
    finally:
        one.stop()
        two.stop()
