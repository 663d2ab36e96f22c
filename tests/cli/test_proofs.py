"""``broker audit``: receipts, exports and checkpoints, and their verification without a broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.client import verify
from broker.sandbox.serve import running as serving
from tests.cli.test_commands import CliRunner, shell_beside
from tests.support.integrated import integrate, integrating
from tests.support.processes import free_port
from tests.support.world import World, running_world, settings_for, upstream


@asynccontextmanager
async def beside(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[World, CliRunner]]:
    """An admin's shell beside a broker whose worker works."""
    url = f"http://127.0.0.1:{free_port()}"
    async with upstream() as (state, upstream_url):
        settings = settings_for(tmp_path, database_url, upstream_url, public_url=url)
        async with (
            running_world(settings, state, upstream_url) as world,
            serving(world.edge, port=int(url.rpartition(":")[2])),
        ):
            shell = shell_beside(url, tmp_path)
            shell.environment["BROKER_TOKEN"] = world.admin["Authorization"].removeprefix("Bearer ")
            yield world, shell


def alone(shell: CliRunner, *words: str) -> subprocess.CompletedProcess[str]:
    """The one file, in a folder with nothing of ours."""
    file = shell.directory / "verify.py"
    file.write_text(Path(verify.__file__).read_text())
    given = [sys.executable, "-I", str(file), *words]
    return subprocess.run(given, cwd=shell.directory, capture_output=True, text=True, check=False, timeout=60)


async def test_what_a_broker_showed_is_verified_without_it(tmp_path: Path, sqlite_url: str) -> None:
    async with beside(tmp_path, sqlite_url) as (world, shell):
        await world.key_for("acme")
        await integrate(world)
        (event,) = await world.events(kind="organization.created")
        async with integrating(world):
            await asyncio.to_thread(shell.run, "audit", "checkpoint", "--out", "saved")
            await asyncio.to_thread(shell.run, "audit", "log-key", "--out", "keys")
            await asyncio.to_thread(shell.run, "audit", "receipt", event["core"]["id"], "--out", "receipt")
            await asyncio.to_thread(shell.run, "audit", "export", "--org", "acme", "--out", "acme.ndjson")
            await asyncio.to_thread(shell.run, "audit", "export", "--out", "log.ndjson")
            await asyncio.to_thread(shell.run, "audit", "consistency", "saved", "--out", "proof")
    # the broker is gone
    wanted: dict[tuple[str, ...], str] = {
        ("receipt", "receipt"): "(organization.created) is in the log of",
        ("export", "acme.ndjson"): "from the beginning to 20",
        ("log", "log.ndjson", "--checkpoint", "saved"): "of the saved checkpoint",
        ("consistency", "saved", "proof"): "begins with the",
    }
    for words, said in wanted.items():
        given = (words[0], *words[1:], "--key", "keys")
        assert said in await asyncio.to_thread(shell.run, "audit", "verify", *given)
        facts = await asyncio.to_thread(shell.json, "audit", "verify", *given)
        assert facts["verified"] is True
        # and by the one file, in whose place nothing else of ours is
        done = await asyncio.to_thread(alone, shell, *given)
        assert (done.returncode, said in done.stdout, done.stderr) == (0, True, "")
    # what was changed is not verified, and the first bad line is named
    lines = (shell.directory / "acme.ndjson").read_text().splitlines(keepends=True)
    (shell.directory / "acme.ndjson").write_text("".join(lines[:3] + lines[4:]))
    refused = await asyncio.to_thread(shell.run, "audit", "verify", "export", "acme.ndjson", "--key", "keys", status=1)
    assert f"NOT verified: line {len(lines) - 1}: the events are not those that the log has" in refused
    done = await asyncio.to_thread(alone, shell, "export", "acme.ndjson", "--key", "keys")
    assert (done.returncode, done.stdout) == (1, "")
    assert "NOT verified: line" in done.stderr
    words = ("audit", "verify", "export", "acme.ndjson", "--key", "keys", "--json")
    problem = json.loads(await asyncio.to_thread(shell.run, *words, status=1))
    assert "NOT verified: line" in problem["detail"]


async def test_files_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    shell = shell_beside("http://127.0.0.1:9", tmp_path)
    (shell.directory / "x").write_bytes(b"\xff")
    (shell.directory / "keys").write_text("")
    verify_ = ("audit", "verify", "receipt")
    assert "the file of keys has none" in await asyncio.to_thread(shell.run, *verify_, "x", "--key", "keys", status=1)
    assert "is no text" in await asyncio.to_thread(shell.run, *verify_, "keys", "--key", "x", status=1)
    assert "nothing: No such file" in await asyncio.to_thread(shell.run, *verify_, "x", "--key", "nothing", status=1)
    said = await asyncio.to_thread(shell.run, "audit", "export", "--from", "2026-01-01T00:00:00Z", status=2)
    assert "--from and --to go with --org" in said
    assert "x is no checkpoint" in await asyncio.to_thread(shell.run, "audit", "consistency", "x", status=1)


async def test_a_file_that_is_there_is_never_written_over(tmp_path: Path, sqlite_url: str) -> None:
    async with beside(tmp_path, sqlite_url) as (world, shell):
        await integrate(world)
        (shell.directory / "saved").write_text("mine")
        said = await asyncio.to_thread(shell.run, "audit", "checkpoint", "--out", "saved", status=5)
        assert "saved exists already" in said
        assert (shell.directory / "saved").read_text() == "mine"
        # and a command that fails leaves none
        missing = ("audit", "export", "--org", "nobody", "--out", "nobody.ndjson")
        await asyncio.to_thread(shell.run, *missing, status=4)
        assert not (shell.directory / "nobody.ndjson").exists()


def test_the_file_that_a_customer_reads_needs_cryptography_alone() -> None:
    import ast

    tree = ast.parse(Path(verify.__file__).read_text())
    roots = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert roots - set(sys.stdlib_module_names) == {"cryptography"}


@pytest.mark.parametrize("what", ["receipt", "consistency", "export"])
def test_the_one_file_says_how_it_is_used(what: str, tmp_path: Path) -> None:
    done = alone(CliRunner({}, tmp_path), what)
    assert done.returncode == 2
    assert "usage:" in done.stderr
