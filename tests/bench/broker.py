"""The broker as it is deployed: ``broker serve``, one customer, one job; on the embedded default or on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from broker.cli.sandbox_folder import sandbox_provider
from broker.client.client import Client
from broker.client.identity import Identity, generate, public
from broker.keystore.local import MasterKeys
from tests.support import processes

KEY = "rc_live_" + "k" * 64


@dataclass(frozen=True)
class Served:
    """Where it listens, its process, tokens of its operator and job, and one of a lease that outlasts the benchmark."""

    port: int
    pid: int
    operator_token: str
    access_token: str
    lease_token: str
    job: Identity

    def fresh_access_token(self) -> str:
        """Another access token of the job, for benchmarks that prepare for longer than one lasts."""
        with Client(self.job) as client:
            return client.token()


@contextmanager
def running(
    directory: Path,
    upstream: str,
    key: str = KEY,
    *,
    database_url: str | None = None,
    workers: int = 1,
    module: str = "broker",
    more: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """A broker with acme's active ``key`` and a job that may use and reveal it.

    Args:
        directory: of its state.
        upstream: the base URL where the key is used; setting up verifies it there.
        key: acme's.
        database_url: of an empty PostgreSQL database; left out, the embedded SQLite.
        workers: processes.
        module: what is run; another one than the broker's changes something about it first.
        more: environment variables of its own.
    """
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    sandbox_provider(directory / "providers", upstream)
    environment = environment_of(directory, port) | dict(more or {})
    command = [sys.executable, "-m", module]
    log = directory / "broker.log"
    if database_url:
        environment["BROKER_DATABASE_URL"] = database_url
        MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
        with log.open("wb") as output:
            subprocess.run([*command, "migrate"], env=environment, stdout=output, check=True)
    serve = [*command, "serve", *(["--workers", str(workers)] if workers > 1 else [])]
    with processes.running(serve, port=port, log=log, environment=environment) as process:
        httpx2.get(f"{url}/readyz", timeout=30).raise_for_status()  # it listens a moment before it serves
        yield Served(port, process.pid, *_prepare(url, _bootstrap(directory), key))


@contextmanager
def replica(of: Path, database_url: str | None, public_port: int) -> Iterator[tuple[int, int]]:
    """Another broker beside the one whose state is in ``of``, or after it: its port and process id.

    ``database_url`` is that one's.
    """
    port = processes.free_port()
    environment = environment_of(of, port) | {"BROKER_PUBLIC_URL": f"http://127.0.0.1:{public_port}"}
    if database_url:
        environment["BROKER_DATABASE_URL"] = database_url
    command = [sys.executable, "-m", "broker", "serve", "--no-worker"]
    with processes.running(command, port=port, log=of / "replica.log", environment=environment) as process:
        yield port, process.pid


def environment_of(directory: Path, port: int) -> dict[str, str]:
    """The variables of a process whose state is in ``directory``."""
    return {
        **os.environ,
        "BROKER_STATE_DIR": str(directory),
        "BROKER_PROVIDERS_DIR": str(directory / "providers"),
        "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "BROKER_PORT": str(port),
        "BROKER_LOG_LEVEL": "warning",
        "BROKER_REVEAL_APPROVAL": "off",
    }


def _bootstrap(directory: Path) -> str:
    """The one-time token that was given out last."""
    return (directory / "first-admin-token").read_text().strip()


def _prepare(url: str, bootstrap: str, key: str) -> tuple[str, str, str, Identity]:
    with httpx2.Client(base_url=url, timeout=30) as http:

        def call(path: str, body: Mapping[str, object]) -> dict[str, object]:
            response = http.post(path, json=body)
            response.raise_for_status()
            answer = response.json()
            assert isinstance(answer, dict)
            return answer

        made = call("/v1/bootstrap", {"token": bootstrap, "name": "bench"})
        http.headers["Authorization"] = f"Bearer {made['token']}"
        call("/v1/organizations", {"slug": "acme", "name": "Acme"})
        call("/v1/credentials", {"organization": "acme", "provider": "raptor-comply", "key": key})
        private = generate()
        workload = call("/v1/workloads", {"name": "bench", "jwks": public(private)})
        grant = {
            "workload": "bench",
            "organizations": ["acme"],
            "provider": "raptor-comply",
            "modes": ["use", "reveal"],
        }
        call("/v1/grants", grant)
    job = Identity(url, str(workload["id"]), private)
    with Client(job) as client:
        lease = client.lease("acme", "raptor-comply", ttl=3600)
        return str(made["token"]), client.token(), lease.token, job
