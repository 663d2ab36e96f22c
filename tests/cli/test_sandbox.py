"""``broker sandbox``: an upstream to try the broker with, whose keys work on the second day too."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker.cli.sandbox_folder import opened
from tests.support.commands import MINIMAL, run
from tests.support.processes import free_port

# Only a start that hangs takes it.
_STARTS_WITHIN_S = 90.0


@dataclass
class SandboxProcess:
    """``broker sandbox --json`` as it serves, and what it said."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    def facilities(self, key: str) -> httpx2.Response:
        return httpx2.get(f"{self.said['url']}/facilities", headers={"X-API-Key": key}, trust_env=False)

    def revoke(self, key: str) -> None:
        answer = httpx2.delete(f"{self.said['url']}/api-keys/current", headers={"X-API-Key": key}, trust_env=False)
        assert answer.status_code == 204


@contextmanager
def sandbox(directory: Path, *options: str) -> Iterator[SandboxProcess]:
    command = [sys.executable, "-m", "broker", "sandbox", "--json", *options]
    with subprocess.Popen(command, env=MINIMAL, cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield SandboxProcess(process, json.loads(process.stdout.readline()))
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                assert process.wait(20) == 0
        finally:
            process.kill()


def said_by(directory: Path, *words: str, status: int = 0) -> str:
    """One ``broker sandbox`` to its end; what it printed, or its one line of error."""
    done = run("sandbox", *words, environment=MINIMAL, directory=directory)
    assert done.returncode == status, done.stderr.decode()
    if status:
        assert done.stderr.decode().count("\n") == 1
        return done.stderr.decode()
    return done.stdout.decode()


def test_keys_and_address_of_the_first_day_are_those_of_the_second(tmp_path: Path) -> None:
    with sandbox(tmp_path, "--port", "0") as first:
        minted = first.said["minted"]
        assert minted["organization"] == "acme"
        asked = said_by(tmp_path, "--mint", "Acme")
        assert asked == f"{asked.strip()}\n", "one key, alone on its line"
        revoked = said_by(tmp_path, "--mint", "globex").strip()
        seen = first.facilities(minted["key"])
        assert (seen.status_code, first.facilities(asked.strip()).json()) == (200, seen.json()), "one organization's"
        assert first.facilities(revoked).json() != seen.json()
        first.revoke(revoked)
        first.process.kill()  # however it ends
        first.process.wait()
    between = json.loads(said_by(tmp_path, "--mint", "acme", "--json"))
    assert between.keys() == {"organization", "id", "key"}
    with sandbox(tmp_path) as second:
        assert second.said["url"] == first.said["url"]
        assert second.said["minted"] is None
        assert [one["name"] for one in second.said["organizations"]] == ["acme", "globex"]
        for key in (minted["key"], asked.strip(), between["key"]):
            assert second.facilities(key).json() == seen.json()
        assert second.facilities(revoked).status_code == 401
    kept = tmp_path / "var/sandbox/sandbox.json"
    assert minted["key"] not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_port_that_is_taken_is_one_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = said_by(tmp_path, "--port", str(taken.getsockname()[1]), status=1)
    assert "already in use" in said
    assert "--port" in said


def test_a_folder_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in said_by(tmp_path, "--dir", "file/sandbox", "--port", "0", status=1)
    kept = tmp_path / "var/sandbox/sandbox.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("[]")
    kept.chmod(0o600)
    assert "is not a sandbox's" in said_by(tmp_path, "--mint", "acme", status=1)
    kept.chmod(0o644)
    assert "chmod 600" in said_by(tmp_path, "--port", "0", status=1)


def test_no_key_is_minted_where_no_sandbox_is_nor_for_nobody(tmp_path: Path) -> None:
    assert "there is no sandbox" in said_by(tmp_path, "--mint", "acme", status=1)
    assert list(tmp_path.iterdir()) == []
    for name in ("", " ", "a\x1b[31m"):
        assert "such as acme" in said_by(tmp_path, "--mint", name, status=1)


def test_who_has_the_folder_and_does_not_answer_is_named(tmp_path: Path) -> None:
    with opened(tmp_path / "var/sandbox") as other:
        other.lead_to(1)
        assert "doesn't answer" in said_by(tmp_path, "--mint", "acme", status=1)
    assert said_by(tmp_path, "--mint", "acme").startswith("rc_live_")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a sandbox that somebody started in a shell; ``said`` has what it said.

    Before it served for the first time, its provider file was asked for, so that a broker could start beside it.
    """
    directory = tmp_path_factory.mktemp("shell")
    assert said_by(directory, "--providers", "--port", str(free_port())) == f"{directory}/var/sandbox/providers\n"
    command = [sys.executable, "-m", "broker", "sandbox"]
    with (directory / "said").open("wb") as said:
        process = subprocess.Popen(command, env=MINIMAL, cwd=directory, stdout=said, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + _STARTS_WITHIN_S
        while b"--mint" not in (directory / "said").read_bytes() and time.monotonic() < until:
            time.sleep(0.02)
        yield directory
    finally:
        process.terminate()
        process.wait(20)


def test_people_are_told_what_to_run_and_the_key_is_on_a_line_of_its_own(shell: Path) -> None:
    said = (shell / "said").read_text().splitlines()
    assert f"    BROKER_PROVIDERS_DIR={shell}/var/sandbox/providers broker serve" in said
    assert [line for line in said if line.startswith("rc_live_")]


def test_the_provider_file_is_in_the_folder_that_is_printed_and_leads_to_it(shell: Path) -> None:
    assert said_by(shell, "--providers") == f"{shell}/var/sandbox/providers\n"
    file = shell / "var/sandbox/providers/raptor-comply.toml"
    address = re.search(r'base_url = "(.*)"', file.read_text())
    assert address is not None
    assert f"The sandbox serves {address[1]} " in (shell / "said").read_text()
    checked = run("provider", "check", str(file), environment=MINIMAL)
    assert checked.returncode == 0, checked.stderr


def test_a_second_one_in_the_folder_is_told_where_the_first_one_serves(shell: Path) -> None:
    said = said_by(shell, "--port", "0", status=1)
    assert "serves from this folder already, http://127.0.0.1:" in said


def test_a_key_that_can_not_be_kept_is_said_to_be_lost_with_the_process(shell: Path) -> None:
    in_the_way = shell / "var/sandbox/sandbox.json.new"
    in_the_way.mkdir()  # nothing can be written there, by root neither
    assert said_by(shell, "--mint", "acme").startswith("rc_live_")
    in_the_way.rmdir()
    assert "what changes is lost when the sandbox ends" in (shell / "said").read_text()
