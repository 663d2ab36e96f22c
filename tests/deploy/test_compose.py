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

from tests.support import bao
from tests.support.databases import postgres_server

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose"
BROKER, POSTGRES, OPENBAO, NGINX = 65532, 999, 100, 0
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
    for name, owner in {
        "broker.toml": BROKER,
        "database-password": POSTGRES,
        "openbao.key": OPENBAO,
        "site.key": NGINX,
        "ca.key": 0,
    }.items():
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_mode & 0o077) == (owner, 0), name
    for name in ("openbao-ca.pem", "openbao.pem", "site.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o444, name
    password = (tmp_path / "database-password").read_text().strip()
    assert f":{password}@postgres/" in tomllib.loads((tmp_path / "broker.toml").read_text())["database_url"]
    assert password not in done.stdout + done.stderr

    assert sh(COMPOSE / "secrets.sh", tmp_path).returncode == 0
    assert (tmp_path / "database-password").read_text().strip() == password


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
        assert "CIDRS:-172.30.0.0/24" in (COMPOSE / "vault.sh").read_text()
        (network,) = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["networks"]["inside"]["ipam"]["config"]
        assert network["subnet"] == "172.30.0.0/24"
        assert (secrets / "secret-id").stat().st_uid == BROKER
        assert {path.stat().st_mode & 0o077 for path in (secrets / "secret-id", secrets / "openbao-init")} == {0}

        server.stop()
        server.start()
        run()
        assert (secrets / "secret-id").read_text().strip() == secret_id
    finally:
        server.stop()


async def test_the_brokers_role_has_a_password_or_is_not_made(tmp_path: Path) -> None:
    with postgres_server(tmp_path / "postgres") as server:
        where = {"PATH": f"{server._server.bin_path}:{os.environ['PATH']}", "PGHOST": server.socket}
        refused = sh(COMPOSE / "role.sh", **where)
        assert refused.returncode != 0
        assert "POSTGRES_PASSWORD: is empty" in refused.stderr
        done = sh(COMPOSE / "role.sh", **where, POSTGRES_PASSWORD="o'hara")
        assert done.returncode == 0, done.stderr
        assert sh(COMPOSE / "role.sh", **where, POSTGRES_PASSWORD="again").returncode != 0, "an error is one"
        connection = await asyncpg.connect(host=server.socket, user="postgres", database="postgres")
        role = await connection.fetchrow("SELECT * FROM pg_authid WHERE rolname = 'keybroker'")
        await connection.close()
    assert role["rolpassword"]
    assert not role["rolsuper"]
    assert not role["rolbypassrls"]
