"""The one-time token that an admin begins with: a terminal shows it, no log does."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from broker import app as composition
from broker.cli import onetime
from broker.formats.token import is_token
from broker.sandbox.serve import running as serving
from tests.support.commands import MINIMAL, run
from tests.support.processes import free_port
from tests.support.world import World, running_world, settings_for, upstream


def migrate(directory: Path, *options: str) -> str:
    """What `broker migrate` writes into a pipe or a file."""
    done = run("migrate", *options, environment={**MINIMAL, "BROKER_STATE_DIR": str(directory)})
    assert done.returncode == 0, done.stderr.decode()
    return (done.stdout + done.stderr).decode()


def on_a_terminal(directory: Path, *options: str) -> str:
    """What it writes on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "broker", "migrate", *options]
    environment = {**MINIMAL, "BROKER_STATE_DIR": str(directory)}
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        said = b""
        with suppress(OSError):  # how a terminal says that nobody writes any more
            while part := os.read(ours, 4096):
                said += part
    os.close(ours)
    return said.decode()


def tokens(text: str) -> list[str]:
    return [word for word in text.split() if is_token(word, "kbb")]


def test_where_no_terminal_is_the_token_is_in_a_file_of_its_owners_and_not_in_the_output(tmp_path: Path) -> None:
    file = tmp_path / "first-admin-token"
    said = migrate(tmp_path)
    assert "kbb_" not in said
    assert f"broker operator bootstrap --name YOU < {file}" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (first,) = tokens(file.read_text())
    # a later start says that one was given out, and leaves it
    again = migrate(tmp_path)
    assert "`broker operator recover` gives out a new one" in again
    assert tokens(file.read_text()) == [first]
    # one that is asked for by hand takes its place, and is in no output either
    assert "kbb_" not in migrate(tmp_path, "--new-token")
    assert tokens(file.read_text()) != [first]


def test_a_terminal_shows_the_token_and_no_file_keeps_it(tmp_path: Path) -> None:
    migrate(tmp_path)
    assert len(tokens(on_a_terminal(tmp_path, "--new-token"))) == 1
    assert not (tmp_path / "first-admin-token").exists()


def test_where_nothing_can_be_written_the_way_by_hand_is_told(tmp_path: Path) -> None:
    (tmp_path / "first-admin-token").mkdir()
    said = migrate(tmp_path)
    assert "first-admin-token can't be written" in said
    assert "`broker operator recover`, on a terminal" in said
    assert "kbb_" not in said


async def test_who_begins_beside_the_broker_keeps_the_account_for_its_public_address(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, public_url="https://keys.vendor.example", port=port)
        async with running_world(settings, state, url, bootstrap=False) as world, serving(world.edge, port=port):
            await onetime.offer(world.broker, settings)
            beside, words = f"http://127.0.0.1:{port}", ("operator", "bootstrap", "--name", "ada", "--for")
            command = f"BROKER_URL={beside} broker {' '.join(words)} https://keys.vendor.example"
            assert command.replace("ada", "YOU") in capsys.readouterr().out
            environment = {**MINIMAL, "HOME": str(tmp_path), "BROKER_URL": beside}
            given = settings.one_time_token_file().read_bytes()

            async def begin(address: str) -> int:
                done = await asyncio.to_thread(run, *words, address, environment=environment, given=given)
                return done.returncode

            for none in ("http://keys.vendor.example", "keys.vendor.example"):
                assert await begin(none) == 1, "and the token is as good as before"
            assert await begin("https://keys.vendor.example") == 0
    account = json.loads((tmp_path / ".config/keybroker/account.json").read_text())
    assert account["url"] == "https://keys.vendor.example"


async def test_the_file_goes_once_its_token_is_used(tmp_path: Path, sqlite_url: str) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url)
        async with running_world(settings, state, url, bootstrap=False) as world:
            await onetime.offer(world.broker, settings)
            file = settings.one_time_token_file()
            await world.call("POST", "/v1/bootstrap", status=201, json={"token": file.read_text().strip(), "name": "a"})
            assert not file.exists()


async def test_the_file_of_a_token_that_was_used_over_another_replica_goes_at_the_next_start(world: World) -> None:
    file = world.settings.one_time_token_file()
    token = await composition.bootstrap_token(world.services, replace=True)
    assert token is not None
    await world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": "bea"})
    file.write_text(token)
    await onetime.offer(world.broker, world.settings)
    assert not file.exists()
