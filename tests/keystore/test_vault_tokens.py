"""How the broker keeps its token: how often it asks for one, and that none ends unnoticed."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hvac
import pytest

from broker.base import closed
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.connection import Address, Session, client
from broker.keystore.vault.faults import unavailable
from broker.keystore.vault.login import AppRole, Login, SecretIdRefused, Token, TokenFile
from broker.keystore.vault.refusals import Refusals
from broker.keystore.vault.server import Vault
from broker.keystore.vault.tokens import Tokens
from tests.keystore.passing import time_passes
from tests.support import bao
from tests.support.clock import FakeClock
from tests.support.fake_vault import Said, fake_vault
from tests.support.waiting import eventually


@asynccontextmanager
async def signed_in(login: Login, url: str, *, keeps: bool = True) -> AsyncIterator[Vault]:
    vault = Vault(Address(url), login, connections=4, timeout=5)
    if keeps:
        vault.start()
    try:
        yield vault
    finally:
        await vault.close()


def role(server: bao.Bao, directory: Path, name: str, **more: Any) -> AppRole:
    """A role of a test's own, so that what is done to it is done to nobody else."""
    wanted = {"token_policies": ["keybroker-transit"], "token_ttl": "1h", **more}
    server.root.auth.approle.create_or_update_approle(name, **wanted)
    given = server.approle(server.root, directory, name)
    return AppRole("approle", given["vault_role_id"], given["vault_secret_id_file"])


async def works(vault: Vault) -> bool:
    return bool(await vault.call(lambda c: c.secrets.transit.read_key("keybroker")["data"]["derived"]))


async def cause_of(vault: Vault) -> str:
    with pytest.raises(KeystoreUnavailable) as caught:
        await works(vault)
    return caught.value.cause


async def test_a_stale_secret_id_locks_nobody_else_out(server: bao.Bao, tmp_path: Path) -> None:
    """Vault locks a role after five wrong secret ids.  A replica that missed a rotation serves many calls."""
    login = role(server, tmp_path, "stale")
    good = login.secret_id_file.read_text()
    login.secret_id_file.write_text("no-such-secret-id")
    async with signed_in(login, server.url) as connection:
        causes = await asyncio.gather(*(cause_of(connection) for _ in range(30)))
        assert set(causes) == {"token"}
        # then: who has the right one signs in
        anonymous = hvac.Client(server.url, token="")
        assert anonymous.auth.approle.login(login.role_id, good.strip(), use_token=False)["auth"]
        # and: so does the replica, at once, when it gets it
        login.secret_id_file.write_text(good)
        assert await works(connection)


async def test_a_token_that_is_refused_as_soon_as_it_is_made_is_not_made_for_every_call(
    server: bao.Bao, tmp_path: Path
) -> None:
    login = role(server, tmp_path, "elsewhere", token_bound_cidrs=["10.9.8.7/32"])
    before = set(server.root.list("auth/token/accessors")["data"]["keys"])
    async with signed_in(login, server.url) as connection:
        for _ in range(10):
            assert await cause_of(connection) == "token"
    assert len(set(server.root.list("auth/token/accessors")["data"]["keys"]) - before) == 1


async def test_a_dead_token_in_an_agents_file_is_not_tried_by_every_call(tmp_path: Path) -> None:
    dead: set[str] = set()
    file = tmp_path / "token"
    closed.replace(file, b"first")

    def play(_method: str, _path: str) -> Said:
        if vault.asked[-1][2]["X-Vault-Token"] in dead:
            return Said(403, '{"errors": ["permission denied"]}')
        return Said(body='{"data": {"derived": true}}')

    with fake_vault(play) as vault:
        async with signed_in(TokenFile(file), vault.url) as connection:
            assert await works(connection)
            dead.add("first")
            for _ in range(10):
                assert await cause_of(connection) == "token"
            assert len(vault.asked) == 3, "with it, with the file's again, and then no more"
            closed.replace(file, b"second")
            assert await works(connection)


def test_a_refused_credential_is_tried_again_ever_later_up_to_a_minute_and_another_at_once() -> None:
    clock = FakeClock()
    refusals = Refusals(clock)
    for pause in (5, 10, 20, 40, 60, 60):
        refusals.note("jwt-1", unavailable("not_set_up"))
        clock.now += pause - 1
        with pytest.raises(KeystoreUnavailable) as caught:
            refusals.check("jwt-1")
        assert caught.value.cause == "not_set_up"
        refusals.check("jwt-2")
        clock.now += 1
        refusals.check("jwt-1")
    refusals.note("jwt-2", unavailable("token"))
    clock.now += 5
    refusals.check("jwt-2")
    refusals.forget()
    refusals.note("jwt-2", unavailable("token"))
    clock.now += 5
    refusals.check("jwt-2")


def test_a_wrong_secret_id_is_told_too_seldom_for_vault_to_count() -> None:
    clock, told, quarter = FakeClock(), list[float](), 15 * 60.0
    refusals = Refusals(clock)
    for _ in range(24 * 60):
        clock.now += 5.0
        try:
            refusals.check("secret-id")
        except KeystoreUnavailable:
            continue
        told.append(clock.now)
        refusals.note("secret-id", SecretIdRefused())
    # Vault forgets what it counted after a quarter of an hour without another
    in_a_row = longest = 1
    for earlier, later in itertools.pairwise(told):
        in_a_row = in_a_row + 1 if later - earlier <= quarter else 1
        longest = max(longest, in_a_row)
    assert longest == 2
    assert len(told) > 5, "but it is tried again"


def test_what_fails_to_renew_is_tried_again_several_times_before_the_token_ends(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "token"
    closed.replace(file, b"t")

    class Lasting(TokenFile):
        def sign_in(self, client: hvac.Client, credential: str) -> Token:  # noqa: ARG002 - needs no call
            return Token(credential, 3600, renewable=True)

    address = Address("http://127.0.0.1:1")
    session = Session(address, 1)
    mine, anonymous = client(address, session, 1), client(address, session, 1)
    tokens = Tokens(Lasting(file), mine, anonymous, lambda: None, clock)
    assert tokens.renew_in() is None
    token = tokens.present()
    assert tokens.renew_in() == pytest.approx(2160)
    clock.now += 2160
    tries = 0
    while clock.now < 100.0 + 3600:
        with pytest.raises(KeystoreUnavailable):
            tokens.renew()
        assert tokens.present() is token, "it is good yet"
        clock.now += tokens.retry_in()
        tries += 1
    assert tries > 1440 / 5
    assert 0 < tokens.retry_in() <= 5
    # and a short one is tried several times too
    clock.now = 100.0 + 3600 - 2
    assert tokens.retry_in() == pytest.approx(0.5)


async def test_a_token_outlives_a_vault_that_is_sealed_when_it_should_be_renewed(
    server: bao.Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # when it is tried again is tested with a clock of its own
    monkeypatch.setattr("broker.keystore.vault.tokens._RETRY_S", 0.2)
    login = role(server, tmp_path, "steady")
    async with signed_in(login, server.url) as connection:
        assert await works(connection)
        tokens = connection.tokens
        token, since = tokens.present().value, tokens.since
        renew, refused = tokens.renew, list[str]()

        def watched() -> None:
            try:
                renew()
            except KeystoreUnavailable as away:
                refused.append(away.cause)
                raise

        monkeypatch.setattr(tokens, "renew", watched)
        await asyncio.to_thread(server.seal)
        try:
            time_passes(connection, 2200)
            await eventually(lambda: len(refused) > 1)
        finally:
            await asyncio.to_thread(server.unseal)
        await eventually(lambda: tokens.since != since)
        assert refused[0] == "sealed"
        assert tokens.present().value == token, "renewed, not replaced"
        assert await works(connection)


async def test_the_keeper_outlives_an_answer_that_is_not_vaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it begins soon and tries again soon; when exactly is tested with a clock of its own
    for name, value in {"_RENEW_AT": 0.05, "_RETRY_S": 0.1, "_RETRY_LEAST_S": 0.1}.items():
        monkeypatch.setattr(f"broker.keystore.vault.tokens.{name}", value)
    renewals: list[str] = []
    odd = ["{}", "[]", "<html>", '{"auth": {"lease_duration": "soon"}}']

    def play(_method: str, path: str) -> Said:
        if path.endswith("/login"):
            auth: dict[str, Any] = {"client_token": "t", "lease_duration": 4, "renewable": True}
            return Said(body=json.dumps({"auth": auth}))
        if path.endswith("/renew-self"):
            renewals.append(path)
            return Said(body=odd[len(renewals) - 1] if len(renewals) <= len(odd) else '{"auth": {"lease_duration": 4}}')
        return Said(body='{"data": {"derived": true}}')

    secret_id = tmp_path / "secret-id"
    closed.replace(secret_id, b"s")
    with fake_vault(play) as vault:
        async with signed_in(AppRole("approle", "r", secret_id), vault.url) as connection:
            assert await works(connection)
            await eventually(lambda: len(renewals) > len(odd))


async def test_a_token_that_expired_is_replaced_by_the_call_that_finds_it(server: bao.Bao, tmp_path: Path) -> None:
    login = role(server, tmp_path, "fleeting", token_ttl="1s", token_max_ttl="1s")
    async with signed_in(login, server.url, keeps=False) as connection:
        assert await works(connection)
        before = connection.tokens.present().value

        def gone() -> bool:
            try:
                server.root.auth.token.lookup(before)
            except (hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath):
                return True
            return False

        await eventually(gone)
        assert all(await asyncio.gather(*(works(connection) for _ in range(8))))
        assert connection.tokens.present().value != before
