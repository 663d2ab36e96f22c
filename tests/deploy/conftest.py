"""The job's side as `make wheel` builds it, and a broker for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.served import ClientBench, client_bench, open_

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
OFFLINE = ["--no-index", "--no-deps"]


def built(source: Path, into: Path) -> Path:
    """The wheel that a source gives, made as `make wheel` does."""
    before = set(into.glob("*.whl"))
    options = [*OFFLINE, "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(into)]
    subprocess.run([*PIP, "wheel", *options, str(source)], check=True, timeout=100)
    (made,) = set(into.glob("*.whl")) - before
    return made


@pytest.fixture(scope="session")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT / "client", tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="session")
def installed(client_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the job's side is installed, and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    options = [*OFFLINE, "--target", str(target)]
    subprocess.run([*PIP, "install", *options, str(client_wheel)], check=True, timeout=100)
    return target


@pytest.fixture
async def bench(tmp_path: Path, sqlite_url: str) -> AsyncIterator[ClientBench]:
    """A broker, and a job's identity file beside the test."""
    async with client_bench(tmp_path, sqlite_url) as made, open_(made):
        made.identity.write(tmp_path / "nightly-sync.identity.json")
        await made.grant()
        yield made
