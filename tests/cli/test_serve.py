"""Several processes on one port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from broker.keystore.local import MasterKeys
from tests.support.commands import run
from tests.support.processes import free_port, listens, running, spawned
from tests.support.waiting import eventually

# Only a start that hangs takes it; on a busy machine each process needs many seconds for its imports.
_STARTS_WITHIN_S = 90.0


def two_processes(directory: Path, database_url: str) -> dict[str, str]:
    """The environment of ``broker serve --workers 2``."""
    MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
    port = free_port()
    return {
        **os.environ,
        "BROKER_STATE_DIR": str(directory),
        "BROKER_DATABASE_URL": database_url,
        "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "BROKER_PORT": str(port),
    }


async def ready(url: str) -> int:
    # a connection of its own for each request: any of the processes may answer
    async with httpx2.AsyncClient(headers={"Connection": "close"}) as http:

        async def status() -> int:
            try:
                return (await http.get(f"{url}/readyz")).status_code
            except httpx2.HTTPError:
                return 0

        try:
            return int(await eventually(status, seconds=_STARTS_WITHIN_S))
        except TimeoutError:
            return 0


async def test_two_processes_serve_one_port_and_a_dead_one_is_replaced(tmp_path: Path, database_url: str) -> None:
    environment = two_processes(tmp_path, database_url)
    command = [sys.executable, "-m", "broker", "serve", "--workers", "2"]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = environment["BROKER_PUBLIC_URL"]
    try:
        assert await ready(url) == 200, (tmp_path / "log.txt").read_text()
        first = spawned(process.pid)
        assert len(first) == 2
        os.kill(min(first), signal.SIGKILL)
        await eventually(lambda: len(spawned(process.pid) - {min(first)}) == 2, seconds=_STARTS_WITHIN_S)
        assert await ready(url) == 200
    finally:
        process.terminate()
        assert process.wait(20) in {0, -signal.SIGTERM}
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_the_number_is_at_least_one() -> None:
    refused = run("serve", "--workers", "0")
    assert refused.returncode == 2
    assert b"workers" in refused.stderr


async def test_a_worker_of_its_own_shows_that_it_works(tmp_path: Path, postgres_url: str) -> None:
    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    port = free_port()
    environment = {
        **os.environ,
        "BROKER_STATE_DIR": str(tmp_path),
        "BROKER_DATABASE_URL": postgres_url,
        "BROKER_WORKER_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "broker", "worker"]
    with running(command, port=port, log=tmp_path / "log.txt", environment=environment):
        assert await ready(url) == 200, (tmp_path / "log.txt").read_text()
        async with httpx2.AsyncClient(base_url=url) as http:

            async def holds() -> bool:
                return "keybroker_worker_holder 1.0" in (await http.get("/metrics")).text

            await eventually(holds, seconds=_STARTS_WITHIN_S)
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/v1/organizations")).status_code == 404, "it is no broker"


async def test_probes_and_metrics_have_a_port_on_which_nothing_else_is(tmp_path: Path, sqlite_url: str) -> None:
    environment = two_processes(tmp_path, sqlite_url)
    beside = free_port()
    environment["BROKER_METRICS_PORT"] = str(beside)
    command = [sys.executable, "-m", "broker", "serve"]
    port = int(environment["BROKER_PORT"])
    with running(command, port=port, log=tmp_path / "log.txt", environment=environment) as process:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{beside}") as http:
            assert await eventually(lambda: listens(beside), seconds=_STARTS_WITHIN_S)
            assert "keybroker_" in (await http.get("/metrics")).text
            assert (await http.get("/readyz")).status_code == 200
            told = {"X-Forwarded-For": "192.0.2.1"}
            for path in ("/v1/organizations", "/v1/bootstrap", "/oauth/token", "/proxy/acme/lab/x", "/intake/x"):
                assert (await http.post(path, headers=told)).status_code == 404, "who may scrape may do no more"
        process.terminate()
        assert process.wait(30) == 0, "both end together"


def test_several_processes_do_not_share_a_port_of_metrics(tmp_path: Path, sqlite_url: str) -> None:
    environment = {**two_processes(tmp_path, sqlite_url), "BROKER_METRICS_PORT": "8081"}
    command = [sys.executable, "-m", "broker", "serve", "--workers", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "BROKER_METRICS_PORT: several processes" in done.stderr


@pytest.mark.parametrize("shown", ["with its probes", "alone"])
def test_a_worker_that_is_told_to_end_ends_well(tmp_path: Path, sqlite_url: str, shown: str) -> None:
    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    port = free_port() if shown == "with its probes" else 0
    environment = {
        **os.environ,
        "BROKER_STATE_DIR": str(tmp_path),
        "BROKER_DATABASE_URL": sqlite_url,
        "BROKER_WORKER_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "broker", "worker"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("worker runs" in line for line in process.stdout)
        while port and not listens(port):
            time.sleep(0.02)
        process.terminate()
        assert process.wait(30) == 0


TOLD = """
import gc
from broker.cli import server

async def told(_server, _sockets=None):
    print("frozen", gc.get_freeze_count(), *gc.get_threshold())

server.SayingServer.serve = told
"""


@pytest.mark.parametrize(
    "serves",
    [
        "server.serve(with_worker=False, workers=1)",
        "import asyncio; server.served(with_worker=True, entrance=None); asyncio.run(told(None))",
    ],
    ids=["one process", "one of several"],
)
def test_what_stands_before_the_first_request_is_not_looked_through_for_garbage(
    tmp_path: Path, sqlite_url: str, serves: str
) -> None:
    environment = two_processes(tmp_path, sqlite_url)
    done = subprocess.run(
        [sys.executable, "-c", TOLD + serves], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found = next(line for line in done.stdout.splitlines() if line.startswith("frozen"))
    frozen, new, *_ = map(int, found.split()[1:])
    assert frozen > 50_000, "modules and their classes alone are more"
    assert new > 700, "Python's own threshold"
