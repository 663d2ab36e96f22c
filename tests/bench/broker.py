"""The broker as it is deployed: a process of its own on the embedded default, one customer, one job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from broker.cli.demo.stage import sandbox_provider
from broker.client.client import Client
from broker.client.identity import Identity, generate, public
from broker.sandbox.state import State
from tests.bench.openbao import free_port


@dataclass(frozen=True)
class Served:
    """Where it listens and the job's access token."""

    port: int
    access_token: str


@contextmanager
def running(directory: Path, upstream: str, state: State, *, database_url: str | None = None) -> Iterator[Served]:
    """A broker with acme's active key and a job that may use and reveal it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    sandbox_provider(directory / "providers", upstream)
    environment = {
        **os.environ,
        "BROKER_STATE_DIR": str(directory),
        "BROKER_PROVIDERS_DIR": str(directory / "providers"),
        "BROKER_PUBLIC_URL": url,
        "BROKER_PORT": str(port),
        "BROKER_LOG_LEVEL": "warning",
    }
    if database_url:
        environment["BROKER_DATABASE_URL"] = database_url
    log = directory / "broker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "broker", "serve"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield Served(port, _prepare(url, log, state))
        finally:
            process.terminate()
            process.wait()


def _prepare(url: str, log: Path, state: State) -> str:
    for _ in range(400):
        if b"serves" in log.read_bytes():
            break
        time.sleep(0.05)
    time.sleep(0.5)
    bootstrap = next(line.strip() for line in log.read_text().splitlines() if line.strip().startswith("kbb_"))
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
        key = state.add_key(state.add_organization("acme"))[1]
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
        client = Client(Identity(url, str(workload["id"]), private))
        token = client.token()
        client.close()
        return token
