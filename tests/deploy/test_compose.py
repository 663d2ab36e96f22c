"""What compose's set-up tells people to run does what it says: against a real OpenBao and a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tomllib
from pathlib import Path

import asyncpg
import hvac
import pytest
import yaml

from broker import database
from tests.support import bao
from tests.support.databases import Postgres, postgres_server
from tests.support.world import running_world, settings_for, upstream

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose"
BROKER, POSTGRES, OPENBAO, NGINX = 65532, 999, 100, 0
PASSWORDS = ("database-password", "database-owner-password", "database-broker-password")
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("openssl") is None, reason="needs root, as files change owners, and openssl"
)


def sh(script: Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", script, *words],
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@as_root
def test_secrets_are_readable_by_who_reads_them_and_stay_as_they_are(tmp_path: Path) -> None:
    done = sh(COMPOSE / "secrets.sh", tmp_path)
    assert done.returncode == 0, done.stderr
    for name, reader in {
        "broker.toml": BROKER,
        "owner-database-url": BROKER,
        **dict.fromkeys(PASSWORDS, POSTGRES),
        "openbao.key": OPENBAO,
        "site.key": NGINX,
        "ca.key": 0,
    }.items():
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_mode & 0o077) == (reader, 0), name
    for name in ("openbao-ca.pem", "openbao.pem", "site.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o444, name
    superuser, owner, broker = passwords = [(tmp_path / name).read_text().strip() for name in PASSWORDS]
    assert len(set(passwords)) == 3, "the superuser, the schema's owner and brokers each have their own"
    url = tomllib.loads((tmp_path / "broker.toml").read_text())["database_url"]
    assert url == f"postgresql+asyncpg://keybroker:{broker}@postgres/keybroker"
    url = (tmp_path / "owner-database-url").read_text().strip()
    assert url == f"postgresql+asyncpg://keybroker_owner:{owner}@postgres/keybroker"
    assert not [password for password in passwords if password in done.stdout + done.stderr]

    assert sh(COMPOSE / "secrets.sh", tmp_path).returncode == 0
    assert (tmp_path / "database-password").read_text().strip() == superuser


@as_root
def test_secrets_are_not_written_where_somebody_put_a_link(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o777)
    (tmp_path / "secrets" / "broker.toml").symlink_to(tmp_path / "theirs")
    done = sh(COMPOSE / "secrets.sh", tmp_path / "secrets")
    assert done.returncode != 0
    assert "links" in done.stderr
    assert not (tmp_path / "theirs").exists()
    (tmp_path / "secrets" / "broker.toml").unlink()
    assert sh(COMPOSE / "secrets.sh", tmp_path / "secrets").returncode == 0
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700, "whatever it was before"


@as_root
def test_the_certificates_are_of_the_authority_and_for_the_names_in_use(tmp_path: Path) -> None:
    assert sh(COMPOSE / "secrets.sh", tmp_path).returncode == 0
    for name, host in (("openbao", "openbao"), ("openbao", "127.0.0.1"), ("site", "keys.vendor.example")):
        _shakes_hands(tmp_path / "openbao-ca.pem", tmp_path / f"{name}.pem", tmp_path / f"{name}.key", host)


def _shakes_hands(authority: Path, certificate: Path, key: Path, host: str) -> None:
    """Raises SSLError where a client that trusts only the authority refuses."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(authority)).wrap_bio(back, there, server_hostname=host)
    server = serving.wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    for side in (client, server, client, server):
        if side in waiting:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert not waiting


@as_root
def test_vault_is_initialised_unsealed_and_set_up_and_later_only_unsealed(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "broker.toml").write_text("")
    for name in ("openbao-init", "secret-id"):  # somebody's links, to what they read
        (tmp_path / f"their-{name}").touch(0o666)
        (secrets / name).symlink_to(tmp_path / f"their-{name}")
    # docker, as far as the script uses it: the command after the service's name runs here
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(
        '#!/bin/sh\nwhile [ "$1" != openbao ]; do shift; done\nshift\n'
        f'[ "${{2:-}}" != /setup/set-up.sh ] || set -- sh {DEPLOY}/vault/set-up.sh\nexec "$@"\n'
    )
    docker.chmod(0o755)
    server = bao.Bao(tmp_path / "bao")
    path = f"{docker.parent}:{Path(bao.binary()).parent}:{os.environ['PATH']}"

    def run() -> None:
        done = sh(
            COMPOSE / "vault.sh", secrets, PATH=path, BAO_ADDR=server.url, HOME=str(tmp_path), CIDRS="127.0.0.0/8"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "OpenBao is unsealed and set up.\n"

    try:
        server.start()
        run()
        given = tomllib.loads((secrets / "broker.toml").read_text())
        secret_id = (secrets / "secret-id").read_text().strip()
        client = hvac.Client(server.url)
        client.auth.approle.login(given["vault_role_id"], secret_id)
        assert client.secrets.transit.read_key("keybroker")["data"]["derived"] is True
        root = (secrets / "openbao-init").read_text().partition("Initial Root Token: ")[2].split()[0]
        role = hvac.Client(server.url, token=root).auth.approle.read_role("keybroker")["data"]
        assert role["token_bound_cidrs"] == ["127.0.0.0/8"], "compose's own network, where none is named"
        (network,) = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["networks"]["inside"]["ipam"]["config"]
        assert f"CIDRS:-{network['ip_range']}" in (COMPOSE / "vault.sh").read_text()
        assert (secrets / "secret-id").stat().st_uid == BROKER
        assert {path.stat().st_mode & 0o077 for path in (secrets / "secret-id", secrets / "openbao-init")} == {0}
        assert {path.read_text() for path in tmp_path.glob("their-*")} == {""}

        server.stop()
        server.start()
        run()
        assert (secrets / "secret-id").read_text().strip() == secret_id
    finally:
        server.stop()


def make_roles(server: Postgres, directory: Path) -> subprocess.CompletedProcess[str]:
    where = {"PATH": f"{server.bin_path}:{os.environ['PATH']}", "PGHOST": server.socket}
    files = {"KEYBROKER_OWNER_PASSWORD_FILE": directory / "owner", "KEYBROKER_PASSWORD_FILE": directory / "broker"}
    return sh(COMPOSE / "role.sh", **where, **{name: str(file) for name, file in files.items()})


async def test_the_database_and_its_two_roles_serve_a_broker_that_can_change_no_schema(tmp_path: Path) -> None:
    with postgres_server(tmp_path / "postgres") as server:
        (tmp_path / "owner").write_text("o'hara\n")
        (tmp_path / "broker").write_text("\n")
        refused = make_roles(server, tmp_path)
        assert refused.returncode != 0
        assert "broker: has no password" in refused.stderr
        (tmp_path / "broker").write_text("o'brien\n")
        done = make_roles(server, tmp_path)
        assert done.returncode == 0, done.stderr
        assert make_roles(server, tmp_path).returncode != 0, "an error is one"

        owner, broker = (server.url("keybroker", role) for role in ("keybroker_owner", "keybroker"))
        async with upstream() as (state, url):
            await database.migrate(settings_for(tmp_path, owner, url))
            settings = settings_for(tmp_path, broker, url)
            await database.migrate(settings)  # as `broker migrate --new-token` does beside a broker
            async with running_world(settings, state, url) as world:
                credential = await world.key_for("acme")
                job = await world.job()
                await world.grant(job, "acme")
                lease = await job.lease("acme")
                assert (await world.proxied(lease, "/facilities")).status_code == 200
                await world.broker.worker.once()
                await world.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "leak"})
                assert (await world.proxied(lease, "/facilities")).status_code == 403
                assert (await world.call("GET", "/readyz"))["database"] == "ok"
        await _is_bound(server)


async def _is_bound(server: Postgres) -> None:
    """What stands between brokers and the whole database can't be taken away by their role."""
    connection = await asyncpg.connect(host=server.socket, user="keybroker", database="keybroker")
    try:
        for refused in (
            "ALTER TABLE audit_events DISABLE TRIGGER ALL",
            "ALTER TABLE credentials DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE credentials NO FORCE ROW LEVEL SECURITY",
            "TRUNCATE audit_events",
            "DROP TABLE audit_events",
            "ALTER TABLE audit_events DETACH PARTITION audit_events_202611",
            "CREATE TABLE more()",
            "CREATE SCHEMA more",
            "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TEMPORARY TABLE more()",
            "SET session_replication_role = replica",
            "SET ROLE keybroker_owner",
            "SET ROLE postgres",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(refused)
        assert await connection.fetchval("SELECT count(*) FROM credentials") == 0, "no tenant is named"
        await connection.execute("SET broker.tenants = '*'")
        assert await connection.fetchval("SELECT count(*) FROM audit_events")
        for change in ("UPDATE audit_events SET kind = 'x'", "DELETE FROM audit_events"):
            with pytest.raises(asyncpg.RaiseError):
                await connection.execute(change)
    finally:
        await connection.close()
