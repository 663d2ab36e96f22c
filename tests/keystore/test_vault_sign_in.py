"""Signing in to a real OpenBao: AppRole, JWT, Kubernetes, an agent's token; renewal, TLS, namespaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hvac
import pytest
from joserfc import jwk, jwt

from broker.base.clock import now_ms
from broker.config import Settings, SettingsUnusable, load
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.login import AppRole, Jwt, Login, TokenFile
from broker.keystore.vault.server import Address, Vault
from tests.keystore.passing import time_passes
from tests.support import bao
from tests.support.certificates import certify
from tests.support.waiting import eventually
from tests.support.world import running_world, settings_for, upstream


@asynccontextmanager
async def signed_in(login: Login, address: Address) -> AsyncIterator[Vault]:
    vault = Vault(address, login, connections=4, timeout=5)
    vault.start()
    try:
        yield vault
    finally:
        await vault.close()


async def works(vault: Vault) -> bool:
    found = await vault.call(lambda client: client.secrets.transit.read_key("keybroker"))
    return bool(found["data"]["derived"])


async def who(vault: Vault, server: bao.Bao) -> dict[str, Any]:
    """What the server knows of the token in use, which may not ask that itself."""
    token = await vault.call(lambda client: str(client.token))
    return dict(server.root.auth.token.lookup(token)["data"])


def issuer() -> tuple[str, Callable[..., str]]:
    """The public key of somebody who signs JWTs, and how they do."""
    key = jwk.ECKey.generate_key("P-256")

    def sign(**more: Any) -> str:
        now = now_ms() // 1000
        claims = {"iss": "ci", "sub": "keybroker", "aud": "bao", "iat": now, "nbf": now, "exp": now + 300, **more}
        return jwt.encode({"alg": "ES256"}, claims, key)

    return key.as_pem(private=False).decode(), sign


async def test_approle(server: bao.Bao, vault: dict[str, Any]) -> None:
    login = AppRole("approle", vault["vault_role_id"], vault["vault_secret_id_file"])
    async with signed_in(login, Address(vault["vault_url"])) as connection:
        assert await works(connection)
        assert (await who(connection, server))["policies"] == ["keybroker-kv", "keybroker-transit"]


async def test_a_jwt_is_read_again_at_each_sign_in(server: bao.Bao, tmp_path: Path) -> None:
    pem, sign = issuer()
    root = server.root
    root.sys.enable_auth_method("jwt", path="ci")
    root.auth.jwt.configure(jwt_validation_pubkeys=[pem], path="ci")
    root.auth.jwt.create_role(
        "keybroker",
        role_type="jwt",
        bound_audiences=["bao"],
        user_claim="sub",
        token_policies=["keybroker-transit"],
        allowed_redirect_uris=[],
        path="ci",
    )
    file = tmp_path / "jwt"
    file.write_text(sign())
    async with signed_in(Jwt("jwt", "ci", "keybroker", file), Address(server.url)) as connection:
        assert await works(connection)
        # when the token is revoked and the projected file has been renewed meanwhile
        file.write_text(sign(jti="second"))
        root.auth.token.revoke((await who(connection, server))["id"])
        assert await works(connection)
    file.write_text(sign(aud="somebody else"))
    async with signed_in(Jwt("jwt", "ci", "keybroker", file), Address(server.url)) as connection:
        with pytest.raises(KeystoreUnavailable) as caught:
            await works(connection)
        assert caught.value.cause == "token"


async def test_kubernetes(server: bao.Bao, tmp_path: Path) -> None:
    """OpenBao's Kubernetes method asks the cluster's TokenReview; a stand-in of that one route answers it."""
    reviewed: list[dict[str, Any]] = []

    async def review(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")
        )
        asked = json.loads(await reader.readexactly(length))
        reviewed.append(asked)
        status = {
            "authenticated": True,
            "audiences": ["bao"],
            "user": {"username": "system:serviceaccount:keys:keybroker", "uid": "1", "groups": []},
        }
        body = json.dumps({**asked, "status": status}).encode()
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    cluster = await asyncio.start_server(review, "127.0.0.1", 0)
    port = cluster.sockets[0].getsockname()[1]
    _, sign = issuer()
    token = sign(
        iss="kubernetes/serviceaccount",
        aud=["bao"],
        sub="system:serviceaccount:keys:keybroker",
        **{
            "kubernetes.io": {
                "namespace": "keys",
                "serviceaccount": {"name": "keybroker", "uid": "1"},
            }
        },
    )
    root = server.root
    certify(tmp_path)

    def prepare() -> None:
        root.sys.enable_auth_method("kubernetes")
        root.auth.kubernetes.configure(
            f"http://127.0.0.1:{port}",
            token_reviewer_jwt=token,
            disable_local_ca_jwt=True,
            kubernetes_ca_cert=(tmp_path / "ca.pem").read_text(),
        )
        root.auth.kubernetes.create_role(
            "keybroker", ["keybroker"], ["keys"], policies=["keybroker-transit"], ttl="10m"
        )

    await asyncio.to_thread(prepare)
    file = tmp_path / "token"
    file.write_text(token)
    login = Jwt("kubernetes", "kubernetes", "keybroker", file)
    async with signed_in(login, Address(server.url)) as connection:
        assert await works(connection)
    assert reviewed[0]["spec"]["token"] == token
    cluster.close()


async def test_a_real_agents_token_file_is_read_again_when_it_was_replaced(
    server: bao.Bao, vault: dict[str, Any], tmp_path: Path
) -> None:
    """`bao agent` signs in by AppRole and keeps its token in a file; the broker never renews that one."""
    import subprocess

    role_id, sink = tmp_path / "role-id", tmp_path / "token"
    role_id.write_text(vault["vault_role_id"])
    config = tmp_path / "agent.hcl"
    secret_id = vault["vault_secret_id_file"]
    config.write_text(
        f'vault {{ address = "{server.url}" }}\n'
        f'auto_auth {{\n  method "approle" {{ config = {{ role_id_file_path = "{role_id}"\n'
        f'  secret_id_file_path = "{secret_id}"\n  remove_secret_id_file_after_reading = false }} }}\n'
        f'  sink "file" {{ config = {{ path = "{sink}", mode = 0600 }} }}\n}}\n'
    )
    command = [bao.binary(), "agent", f"-config={config}"]

    async def agent() -> subprocess.Popen[bytes]:
        sink.unlink(missing_ok=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            if sink.exists() and sink.read_text():
                return process
            await asyncio.sleep(0.05)
        raise AssertionError("the agent did not sign in")

    first = await agent()
    try:
        async with signed_in(TokenFile(sink), Address(server.url)) as connection:
            assert await works(connection)
            before = (await who(connection, server))["id"]
            first.terminate()
            first.wait()
            server.root.auth.token.revoke(before)
            first = await agent()
            assert await works(connection)
            assert (await who(connection, server))["id"] != before
            sink.write_text("")
            server.root.auth.token.revoke((await who(connection, server))["id"])
            with pytest.raises(KeystoreUnavailable, match="BROKER_VAULT_TOKEN_FILE") as caught:
                await works(connection)
            assert caught.value.cause == "credentials_missing"
    finally:
        first.terminate()
        first.wait()


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o666])
def test_what_the_broker_signs_in_with_is_nobody_elses_to_read_or_write(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secret"
    file.write_text("s")
    file.chmod(mode)
    for login in (TokenFile(file), AppRole("approle", "r", file)):
        with pytest.raises(KeystoreUnavailable, match="others can read the file that BROKER_VAULT_") as caught:
            login.credential()
        assert caught.value.cause == "credentials_open"
        assert str(tmp_path) not in caught.value.public
    file.chmod(0o600)
    assert TokenFile(file).credential() == AppRole("approle", "r", file).credential() == "s"


async def test_a_token_is_renewed_before_it_ends(
    server: bao.Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # when this is due is tested with a clock of its own; here it is soon, and a slow machine is in time all the same
    monkeypatch.setattr("broker.keystore.vault.tokens._RENEW_AT", 0.02)
    root = server.root
    root.auth.approle.create_or_update_approle(
        "short", token_policies=["keybroker-transit"], token_ttl="40s", token_max_ttl="5m"
    )
    given = server.approle(root, tmp_path, "short")
    login = AppRole("approle", given["vault_role_id"], given["vault_secret_id_file"])
    async with signed_in(login, Address(server.url)) as connection:
        before = await who(connection, server)
        # then: Vault lets the token live on, although nothing else is asked meanwhile
        await eventually(lambda: root.auth.token.lookup(before["id"])["data"]["expire_time"] != before["expire_time"])
        assert (await who(connection, server))["id"] == before["id"]


async def test_a_token_at_the_end_of_its_longest_life_is_replaced(
    server: bao.Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is short is tested with numbers; here a renewal for a second less than asked for is, and leaves time to look
    monkeypatch.setattr("broker.keystore.vault.tokens._RENEW_AT", 0.99)
    root = server.root
    root.auth.approle.create_or_update_approle(
        "brief", token_policies=["keybroker-transit"], token_ttl="30s", token_max_ttl="30s"
    )
    given = server.approle(root, tmp_path, "brief")
    login = AppRole("approle", given["vault_role_id"], given["vault_secret_id_file"])
    async with signed_in(login, Address(server.url)) as connection:
        before = (await who(connection, server))["id"]
        await eventually(lambda: root.auth.token.lookup(before)["data"]["ttl"] < 29)  # Vault rounds what is left
        # when it should be renewed, and nothing is asked meanwhile
        time_passes(connection, 30)
        # then there is another before it ends
        await eventually(lambda: connection.tokens.present().value != before)
        assert root.auth.token.lookup(before)["data"]["ttl"] > 0
        assert (await who(connection, server))["id"] != before
        assert await works(connection)


async def test_a_secret_id_that_was_withdrawn_is_a_clear_cause(server: bao.Bao, tmp_path: Path) -> None:
    # a role of its own: Vault locks one out where wrong secret ids come
    server.root.auth.approle.create_or_update_approle("withdrawn", token_policies=["keybroker-transit"])
    given = server.approle(server.root, tmp_path, "withdrawn")
    given["vault_secret_id_file"].write_text("no-such-secret-id")
    login = AppRole("approle", given["vault_role_id"], given["vault_secret_id_file"])
    async with signed_in(login, Address(server.url)) as connection:
        with pytest.raises(KeystoreUnavailable, match="sign-in") as caught:
            await works(connection)
        assert caught.value.cause == "token"
        assert "no-such-secret-id" not in str(caught.value)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with bao.running(tmp_path_factory.mktemp("secure"), tls=True) as made:
        made.set_up()
        yield made


async def test_tls_is_trusted_from_the_pinned_authority_alone(
    secure: bao.Bao, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = secure.approle(secure.root, tmp_path / "vault")
    login = AppRole("approle", given["vault_role_id"], given["vault_secret_id_file"])
    async with signed_in(login, Address(secure.url, ca_file=secure.ca_file)) as connection:
        assert await works(connection)
    # neither without the pin, nor with another one, nor with one that only the environment names
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.ca_file))
    other = tmp_path / "other"
    other.mkdir()
    certify(other)
    for ca_file in (None, other / "ca.pem"):
        async with signed_in(login, Address(secure.url, ca_file=ca_file)) as connection:
            with pytest.raises(KeystoreUnavailable, match="CA_FILE") as caught:
                await works(connection)
            assert caught.value.cause == "certificate"
    # and a whole broker over it
    async with upstream() as (state, url):
        settings = settings_for(tmp_path / "broker", sqlite_url, url, keystore="vault-kv", **given)
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")


async def test_no_certificate_or_token_of_the_environment_is_taken(
    secure: bao.Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hvac reads these as it is imported, and would fail on a file that is missing."""
    given = secure.approle(secure.root, tmp_path / "vault")
    for name in ("VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_CACERT", "VAULT_CAPATH"):
        monkeypatch.setattr(f"hvac.v1.{name}", str(tmp_path / "somebody-elses.pem"))
    for name in ("VAULT_TOKEN", "VAULT_ADDR", "VAULT_NAMESPACE", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "https://127.0.0.1:1")
    login = AppRole("approle", given["vault_role_id"], given["vault_secret_id_file"])
    async with signed_in(login, Address(secure.url, ca_file=secure.ca_file)) as connection:
        assert await works(connection)


@pytest.mark.parametrize("policy", ["keybroker-transit", "keybroker-kv"])
async def test_each_policy_alone_is_enough_for_its_keystore(
    policy: str, server: bao.Bao, tmp_path: Path, sqlite_url: str
) -> None:
    """``keybroker-kv`` and ``keybroker-transit`` are both needed only while values move from one to the other."""
    server.root.auth.approle.create_or_update_approle(f"{policy}-alone", token_policies=[policy])
    given = server.approle(server.root, tmp_path / "vault", f"{policy}-alone")
    keystore = policy.replace("keybroker", "vault")
    async with upstream() as (state, url):
        settings = settings_for(tmp_path / "broker", sqlite_url, url, keystore=keystore, **given)
        async with running_world(settings, state, url) as world:
            credential = await world.key_for("acme")
            job = await world.job()
            await world.grant(job, "acme")
            assert (await world.http.get("/readyz")).status_code == 200
            assert (await world.proxied(await job.lease("acme"), "/facilities")).status_code == 200
            revoke = f"/v1/credentials/{credential}/versions/1/revoke"
            assert (await world.call("POST", revoke, json={"reason": "over"}))["state"] == "revoked"
            await world.work(hours=1)


async def test_a_namespace_holds_the_brokers_mounts(server: bao.Bao, tmp_path: Path, sqlite_url: str) -> None:
    server.root.write_data("sys/namespaces/keys", data={})
    client = server.set_up(namespace="keys")
    given = server.approle(client, tmp_path / "vault")
    async with upstream() as (state, url):
        settings = settings_for(
            tmp_path / "broker", sqlite_url, url, keystore="vault-kv", vault_namespace="keys", **given
        )
        async with running_world(settings, state, url) as world:
            credential = await world.key_for("acme")
            organization = (await world.call("GET", f"/v1/credentials/{credential}"))["organization"]
    path = f"keybroker/organizations/{organization}/raptor-comply/{credential}"
    assert client.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True)["data"]["data"]["key"]
    with pytest.raises(hvac.exceptions.InvalidPath):
        server.root.secrets.kv.v2.read_secret_metadata(path)


WHOLE = {"vault_url": "https://vault.example", "vault_role_id": "r", "vault_secret_id_file": "/nowhere"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"keystore": "vault-kv"}, "BROKER_VAULT_URL"),
        ({"vault_url": "http://vault.example:8200"}, "BROKER_VAULT_URL: must be https"),
        ({"vault_url": "https://u:p@vault.example"}, "BROKER_VAULT_URL"),
        ({"vault_url": "https://vault.example"}, "BROKER_VAULT_ROLE_ID"),
        ({"vault_url": "https://vault.example", "vault_role_id": "r"}, "BROKER_VAULT_SECRET_ID_FILE"),
        ({"vault_url": "https://vault.example", "vault_auth": "token"}, "BROKER_VAULT_TOKEN_FILE"),
        ({"vault_url": "https://vault.example", "vault_auth": "jwt"}, "BROKER_VAULT_ROLE"),
        ({"vault_url": "https://vault.example", "vault_auth": "ldap"}, "BROKER_VAULT_AUTH"),
        (WHOLE | {"vault_ca_file": "/nowhere/ca.pem"}, "BROKER_VAULT_CA_FILE: must be a readable PEM file"),
        (WHOLE | {"vault_ca_file": __file__}, "BROKER_VAULT_CA_FILE: must be a readable PEM file"),
        ({"vault_transit_key": "a/b"}, "BROKER_VAULT_TRANSIT_KEY"),
        ({"vault_kv_prefix": "a//b"}, "BROKER_VAULT_KV_PREFIX"),
    ],
)
def test_a_setting_that_is_missing_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsUnusable, match=named):
        load(**given)
    assert isinstance(load(), Settings)
