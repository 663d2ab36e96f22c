"""With keys in Vault: planted secrets are found in nothing that broker or Vault write."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running as serving
from broker.sandbox.state import State
from tests.house.test_canary import echoes, found, live
from tests.support.bao import Bao
from tests.support.lab import lab_upstream
from tests.support.processes import free_port
from tests.support.program import Program


@pytest.mark.parametrize("keystore", ["vault-transit", "vault-kv"])
async def test_planted_secrets_are_found_nowhere(
    keystore: str, tmp_path: Path, sqlite_url: str, server: Bao, vault: dict[str, Any]
) -> None:
    state = State()
    settings = {f"BROKER_{name.upper()}": str(value) for name, value in vault.items()}
    async with (
        serving(create_sandbox("canary-admin-token", state)) as upstream,
        lab_upstream(tmp_path / "providers") as lab,
    ):
        lab.scripts |= dict(echoes())
        program = await asyncio.to_thread(
            Program, tmp_path, sqlite_url, upstream, free_port(), more={"BROKER_KEYSTORE": keystore, **settings}
        )
        try:
            secrets, said = await asyncio.to_thread(live, program, state)
        finally:
            await asyncio.to_thread(program.stop)
    secrets["secret id"] = vault["vault_secret_id_file"].read_bytes().strip()
    if keystore == "vault-kv":
        kv = server.root.secrets.kv.v2
        stored = kv.read_secret_version("keybroker/broker/master-keys", raise_on_deleted_version=True)["data"]["data"]
        secrets |= {f"master key {name}": key.encode() for name, key in stored["keys"].items()}
    assert secrets.keys() >= {"customer key", "revealed key", "lease token", "access token", "secret id"}
    leaks = [leak for where, data in said for leak in found(secrets, where, data)]
    for path in (*tmp_path.rglob("*"), *server.directory.rglob("*")):
        if path.is_file() and path != vault["vault_secret_id_file"]:
            leaks += found(secrets, path.name, path.read_bytes())
    assert leaks == []
