"""The peer: a real OpenBao with raft storage and a file audit device, holding one KV v2 secret."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hvac
import requests

from tests.bench.processes import free_port


@dataclass(frozen=True)
class OpenBao:
    """Where it listens and what reads the secret."""

    port: int
    token: str
    audit_log: Path


def binary() -> str:
    """The ``bao`` of the pinned wheel."""
    beside = Path(sys.executable).parent / "bao"
    return str(beside) if beside.exists() else shutil.which("bao") or "bao"


@contextmanager
def running(directory: Path) -> Iterator[OpenBao]:
    """A server on fresh storage, initialised, unsealed, audited."""
    port, cluster = free_port(), free_port()
    audit_log = directory / "audit.log"
    (directory / "raft").mkdir(parents=True)
    config = directory / "bao.hcl"
    config.write_text(
        f'storage "raft" {{\n  path = "{directory}/raft"\n  node_id = "one"\n}}\n'
        f'listener "tcp" {{\n  address = "127.0.0.1:{port}"\n  tls_disable = true\n}}\n'
        f'api_addr = "http://127.0.0.1:{port}"\ncluster_addr = "http://127.0.0.1:{cluster}"\n'
        f'audit "file" "file" {{\n  options {{\n    file_path = "{audit_log}"\n  }}\n}}\n'
    )
    with (directory / "bao.log").open("wb") as log:
        process = subprocess.Popen([binary(), "server", f"-config={config}"], stdout=log, stderr=subprocess.STDOUT)
        try:
            yield OpenBao(port, _prepare(f"http://127.0.0.1:{port}"), audit_log)
        finally:
            process.terminate()
            process.wait()


def _prepare(url: str) -> str:
    client = hvac.Client(url)
    for _ in range(200):
        try:
            client.sys.read_health_status(method="GET")
            break
        except requests.ConnectionError:
            time.sleep(0.05)
    made = client.sys.initialize(1, 1)
    client.sys.submit_unseal_key(made["keys"][0])
    client.token = made["root_token"]
    for _ in range(200):
        if client.sys.read_leader_status()["is_self"]:
            break
        time.sleep(0.05)
    client.sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
    for _ in range(200):
        try:
            client.secrets.kv.v2.create_or_update_secret("tenants/acme", {"api_key": "rc_live_" + "x" * 64})
            break
        except hvac.exceptions.InvalidRequest:  # KV v2 upgrades itself for a moment
            time.sleep(0.05)
    client.sys.create_or_update_policy("read", 'path "secret/data/tenants/acme" { capabilities = ["read"] }')
    created = client.auth.token.create(policies=["read"], ttl="1h")
    return str(created["auth"]["client_token"])
