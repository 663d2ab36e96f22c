"""The examples do what they say, against a broker and an upstream."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import get_args

import pytest

from broker.client.identity import Algorithm, Identity, generate, public
from tests.client.served import RAPTOR, ClientBench

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PYTHON = """
import runpy, sys
sys.path[:] += {paths!r}
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(language: str, installed: Path) -> list[str]:
    """What runs a language's example; skips where that isn't installed."""
    needed = {"python": [], "curl": ["bash", "curl", "jq", "openssl"], "node": ["node"]}[language]
    if missing := [tool for tool in needed if shutil.which(tool) is None]:
        pytest.skip(f"no {', '.join(missing)} here")
    if language == "curl":
        return ["bash", str(EXAMPLES / "curl/job.sh")]
    if language == "node":
        return ["node", str(EXAMPLES / "node/job.mjs")]
    paths = [str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    # -S: the environment's own link to our sources isn't followed.
    return [sys.executable, "-I", "-S", "-c", PYTHON.format(paths=paths), str(EXAMPLES / "python/job.py")]


async def run(words: list[str], identity: Path, organization: str, path: str) -> tuple[int, str, str]:
    """An example's status and what it printed and said."""
    whole = [*words, str(identity), organization, RAPTOR, path]
    done = await asyncio.to_thread(
        subprocess.run, whole, capture_output=True, text=True, timeout=60, cwd=identity.parent, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    return tmp_path / "nightly-sync.identity.json"


EVERY = pytest.mark.parametrize("language", ["python", "curl", "node"])


@EVERY
async def test_an_example_calls_the_upstream_and_gives_its_lease_back(
    language: str, bench: ClientBench, installed: Path, identity: Path
) -> None:
    status, printed, said = await run(command(language, installed), identity, "acme", "/facilities")
    assert (status, said) == (0, "")
    assert len(json.loads(printed)) == 3
    assert await bench.states() == ["ended"]


@EVERY
async def test_an_example_says_why_it_was_refused_and_no_secret(
    language: str, bench: ClientBench, installed: Path, identity: Path
) -> None:
    words = command(language, installed)
    status, printed, said = await run(words, identity, "globex", "/facilities")
    assert (status, printed) == (1, "")
    assert "no_grant" in said
    # a call that the upstream refuses ends its lease, too
    status, printed, said = await run(words, identity, "acme", "/nowhere")
    assert (status, printed) == (1, "")
    assert "404" in said
    assert await bench.states() == ["ended"]
    assert "kbl_" not in said


async def test_the_example_in_node_signs_with_every_algorithm(
    bench: ClientBench, installed: Path, identity: Path
) -> None:
    words = command("node", installed)
    for algorithm in get_args(Algorithm):
        private = generate(algorithm)
        key = public(private)["keys"][0]
        await asyncio.to_thread(bench.client().rotate_key, key, overlap_seconds=3600)
        Identity(bench.url, bench.identity.client_id, private).replace(identity)
        status, _, said = await run(words, identity, "acme", "/facilities")
        assert (status, said) == (0, ""), algorithm


def test_every_language_is_run_here_but_go() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {"python", "curl", "node", "go"}
