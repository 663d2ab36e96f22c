"""Several processes on one port."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2

from broker.keystore.local import MasterKeys
from tests.support.processes import free_port, running


def serving(directory: Path, database_url: str) -> tuple[subprocess.Popen[bytes], str]:
    """``broker serve --workers 2`` and its address."""
    MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "BROKER_STATE_DIR": str(directory),
        "BROKER_DATABASE_URL": database_url,
        "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "BROKER_PORT": str(port),
    }
    command = [sys.executable, "-m", "broker", "serve", "--workers", "2"]
    with (directory / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    return process, f"http://127.0.0.1:{port}"


def children(pid: int) -> set[int]:
    """The processes that serve."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], check=False, capture_output=True, text=True
    )
    return {int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line}


async def ready(url: str) -> int:
    for _ in range(300):
        try:
            async with httpx2.AsyncClient() as http:  # a connection of its own: any of the processes may answer
                return (await http.get(f"{url}/readyz")).status_code
        except httpx2.HTTPError:
            await asyncio.sleep(0.1)
    return 0


async def test_two_processes_serve_one_port_and_a_dead_one_is_replaced(tmp_path: Path, postgres_url: str) -> None:
    process, url = serving(tmp_path, postgres_url)
    try:
        assert await ready(url) == 200, (tmp_path / "log.txt").read_text()
        first = children(process.pid)
        assert len(first) == 2
        os.kill(min(first), signal.SIGKILL)
        async with asyncio.timeout(30):
            while len(children(process.pid) - {min(first)}) < 2:
                await asyncio.sleep(0.1)
        assert await ready(url) == 200
    finally:
        process.terminate()
        assert process.wait(20) in {0, -signal.SIGTERM}
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


async def test_several_processes_are_refused_on_sqlite(tmp_path: Path, sqlite_url: str) -> None:
    process, _ = serving(tmp_path, sqlite_url)
    assert await asyncio.to_thread(process.wait, 30) == 1
    assert "several processes need PostgreSQL" in (tmp_path / "log.txt").read_text()
    assert "BROKER_DATABASE_URL" in (tmp_path / "log.txt").read_text()


def test_the_number_is_at_least_one() -> None:
    command = [sys.executable, "-m", "broker", "serve", "--workers", "0"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "workers" in refused.stderr


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
            text = ""
            for _ in range(300):
                text = (await http.get("/metrics")).text
                if "keybroker_worker_holder 1.0" in text:
                    break
                await asyncio.sleep(0.1)
            assert "keybroker_worker_holder 1.0" in text
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/v1/organizations")).status_code == 404, "it is no broker"
