"""The peer: a real OpenBao with raft storage and a file audit device, holding one KV v2 secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import bao


@dataclass(frozen=True)
class OpenBao:
    """Where it listens and what reads the secret."""

    port: int
    pid: int
    token: str
    audit_log: Path
    server: bao.Bao


@contextmanager
def running(directory: Path) -> Iterator[OpenBao]:
    """A server on fresh storage, initialised, unsealed, audited."""
    with bao.running(directory, audited=True) as server:
        client = server.set_up()
        client.secrets.kv.v2.create_or_update_secret("tenants/acme", {"api_key": "rc_live_" + "x" * 64})
        client.sys.create_or_update_policy("read", 'path "secret/data/tenants/acme" { capabilities = ["read"] }')
        created = client.auth.token.create(policies=["read"], ttl="1h")
        assert server.process is not None  # it runs
        yield OpenBao(server.port, server.process.pid, str(created["auth"]["client_token"]), server.audit_log, server)
