"""A real OpenBao for tests: a server process on raft storage.

It is set up as ``deploy/vault`` says.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import requests

from tests.support.certificates import certify
from tests.support.processes import free_port

POLICIES = Path(__file__).parents[2] / "deploy" / "vault"


def binary() -> str:
    """The ``bao`` of the pinned wheel."""
    beside = Path(sys.executable).parent / "bao"
    return str(beside) if beside.exists() else shutil.which("bao") or "bao"


@dataclass
class Bao:
    """One server.

    ``root`` is for set-up only.  What is tested signs in as ``deploy/vault`` lets it.
    """

    directory: Path
    tls: bool = False
    audited: bool = False
    node: str = "one"
    # Raft waits so many seconds, up to twice, before it holds an election: a server that is alone needs no patience.
    patience: int = 1
    port: int = field(default_factory=free_port)
    cluster: int = field(default_factory=free_port)
    unseal_key: str = ""
    root_token: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def root(self) -> hvac.Client:
        """A client with every right."""
        return hvac.Client(self.url, token=self.root_token, verify=str(self.ca_file) if self.tls else True, timeout=30)

    def start(self) -> None:
        """Start the process and wait until it listens."""
        (self.directory / "raft").mkdir(parents=True, exist_ok=True)
        config = self.directory / "bao.hcl"
        secure = (
            f'tls_cert_file = "{self.directory}/server.pem"\n  tls_key_file = "{self.directory}/server.key"'
            if self.tls
            else "tls_disable = true"
        )
        if self.tls and not self.ca_file.exists():
            certify(self.directory)
        audit = f'audit "file" "file" {{\n  options {{\n    file_path = "{self.audit_log}"\n  }}\n}}\n'
        config.write_text(
            f'storage "raft" {{\n  path = "{self.directory}/raft"\n  node_id = "{self.node}"\n'
            f"  performance_multiplier = {self.patience}\n}}\n"
            f'listener "tcp" {{\n  address = "127.0.0.1:{self.port}"\n  {secure}\n'
            f'  cluster_address = "127.0.0.1:{self.cluster}"\n}}\n'
            f"{audit if self.audited else ''}"
            f'api_addr = "{self.url}"\ncluster_addr = "https://127.0.0.1:{self.cluster}"\n'
        )
        with (self.directory / "bao.log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary(), "server", f"-config={config}"], stdout=log, stderr=subprocess.STDOUT
            )
        self.wait(lambda: self.root.sys.read_health_status(method="GET") is not None)

    def stop(self, sign: int = signal.SIGKILL) -> None:
        """End the process; its storage stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(sign)
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Let it hold connections and answer nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def seal(self) -> None:
        self.root.sys.seal()

    def unseal(self) -> None:
        """Unseal it, and wait until it is active."""
        self.root.sys.submit_unseal_key(self.unseal_key)
        self.wait(lambda: bool(self.root.sys.read_leader_status().get("leader_address")))

    def join(self, leader: Bao) -> None:
        """Become a standby of another's cluster."""
        self.root.sys.join_raft_cluster(leader.url)

        def follows() -> bool:
            if self.root.sys.read_seal_status()["sealed"]:  # the leader's answer to the join comes by and by
                self.root.sys.submit_unseal_key(self.unseal_key)
            return bool(self.root.sys.read_leader_status().get("leader_address") == leader.url)

        self.wait(follows)

    def initialise(self) -> None:
        """Make it ready for use, once."""
        made = self.root.sys.initialize(1, 1)
        self.unseal_key, self.root_token = made["keys"][0], made["root_token"]
        self.unseal()
        self.wait(lambda: bool(self.root.sys.read_leader_status().get("is_self")))

    def wait(self, until: Any) -> None:
        """Wait for ``until`` to be true, for up to 20 seconds."""
        end = time.monotonic() + 20
        while True:
            try:
                if until():
                    return
            except (requests.RequestException, hvac.exceptions.VaultError):
                pass
            if time.monotonic() > end:
                raise TimeoutError((self.directory / "bao.log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def set_up(self, *, namespace: str | None = None, ttl: str = "1h", role: str = "keybroker") -> hvac.Client:
        """Set up mounts, key, policies and an AppRole, as the documentation tells.

        Returns:
            A root client of the namespace.
        """
        client = hvac.Client(
            self.url,
            token=self.root_token,
            verify=str(self.ca_file) if self.tls else True,
            namespace=namespace,
            timeout=30,
        )
        client.sys.enable_secrets_engine("transit")
        client.secrets.transit.create_key("keybroker", derived=True, key_type="aes256-gcm96")
        client.sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
        # KV v2 readies itself for a moment
        self.wait(lambda: client.secrets.kv.v2.read_configuration(mount_point="secret"))
        for file in sorted(POLICIES.glob("*.hcl")):
            client.sys.create_or_update_policy(file.stem, file.read_text())
        client.sys.enable_auth_method("approle")
        client.auth.approle.create_or_update_approle(
            role,
            token_policies=["keybroker-transit", "keybroker-kv"],
            token_no_default_policy=True,
            token_ttl=ttl,
            token_max_ttl="24h",
        )
        return client

    def approle(self, client: hvac.Client, directory: Path, role: str = "keybroker") -> dict[str, Any]:
        """Settings that sign a broker in as the role."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "secret-id"
        file.write_text(client.auth.approle.generate_secret_id(role)["data"]["secret_id"] + "\n")
        file.chmod(0o600)
        return {
            "vault_url": self.url,
            "vault_auth": "approle",
            "vault_role_id": client.auth.approle.read_role_id(role)["data"]["role_id"],
            "vault_secret_id_file": file,
            **({"vault_ca_file": self.ca_file} if self.tls else {}),
        }


@contextmanager
def running(directory: Path, *, tls: bool = False, audited: bool = False) -> Iterator[Bao]:
    """An initialised, unsealed server."""
    directory.mkdir(parents=True, exist_ok=True)
    server = Bao(directory, tls=tls, audited=audited)
    try:
        server.start()
        server.initialise()
        yield server
    finally:
        server.stop()
