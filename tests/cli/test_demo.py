"""``broker demo`` beside other demos, and what its reader can do next."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.support.commands import MINIMAL, run
from tests.support.processes import free_port

# Only a demo that hangs takes it.
_PLAYS_WITHIN_S = 100.0


@dataclass
class Played:
    """Two demos that began at once on one port, in two folders; ``first`` goes on serving."""

    directory: Path
    port: int
    first: subprocess.Popen[bytes]
    second_status: int
    second_said: str

    def said(self) -> str:
        return (self.directory / "said").read_text()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    one, other = (tmp_path_factory.mktemp(name) for name in ("one", "other"))
    port = free_port()
    demo = [sys.executable, "-m", "broker", "demo", "--port", str(port)]
    with (one / "said").open("wb") as told, (other / "said").open("wb") as told_other:
        first = subprocess.Popen(demo, env=MINIMAL, cwd=one, stdout=told, stderr=subprocess.STDOUT)
        # Settings of another broker are none of the demo's: it brings its own.
        environment = {**MINIMAL, "BROKER_DATABASE_URL": "postgresql://somebody@192.0.2.1/theirs"}
        second = subprocess.Popen(
            [*demo, "--exit"], env=environment, cwd=other, stdout=told_other, stderr=subprocess.STDOUT
        )
    try:
        status = second.wait(_PLAYS_WITHIN_S)
        until = time.monotonic() + _PLAYS_WITHIN_S
        while b"Ctrl-C" not in (one / "said").read_bytes() and first.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        yield Played(one, port, first, status, (other / "said").read_text())
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_two_that_begin_at_once_on_one_port_both_hold(played: Played) -> None:
    for said in (played.said(), played.second_said):
        assert said.count("✓") == 22, said
        assert "Traceback" not in said
        assert "lease.issued" in said, "the record"
    assert played.second_status == 0
    taken = f"Port {played.port} can't be had; the demo's broker serves http://localhost:"
    assert [taken in said for said in (played.said(), played.second_said)].count(True) == 1


def test_what_it_says_to_try_next_runs_as_it_is(played: Played, tmp_path: Path) -> None:
    lines = re.findall(r"^    (\S.*)$", played.said().partition("run as they are:")[2], re.MULTILINE)
    assert [line.split()[0] for line in lines[:3]] == ["cd", "export", "export"]
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail"],
        input="\n".join(lines),
        # a shell of their own, elsewhere
        env={**MINIMAL, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=_PLAYS_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Riverside Substation" in done.stdout
    assert "kbl_" in done.stdout
    assert "use.completed" in done.stdout
    assert done.stderr == ""


def test_it_ends_with_a_link_that_signs_a_browser_in_as_its_admin(played: Played) -> None:
    (link,) = re.findall(r"Open the console, as ada:\s+(http://localhost:\d+/login/link#kbe_\S+)", played.said())
    page, _, secret = link.partition("#")
    ours = {"Sec-Fetch-Site": "same-origin"}
    with httpx2.Client(timeout=30) as browser:
        assert browser.get(page).status_code == 200
        assert browser.post(page, json={"secret": secret}, headers=ours).status_code == 200
        assert browser.get(page.replace("/login/link", "/v1/operators/me")).json()["name"] == "ada"


def test_what_it_leaves_for_the_next_step_is_its_owners_alone(played: Played) -> None:
    for name in ("nightly-sync.identity.json", "operator-token", "sandbox/sandbox.json"):
        assert (played.directory / "var/demo" / name).stat().st_mode & 0o777 == 0o600, name


def test_another_one_in_its_folder_is_refused_and_takes_nothing_away(played: Played) -> None:
    refused = run("demo", "--exit", "--port", "0", environment=MINIMAL, directory=played.directory)
    assert refused.returncode == 1
    assert refused.stderr.decode() == "error: var/demo: another demo runs here; end it, or run this one elsewhere.\n"
    assert (played.directory / "var/demo/operator-token").exists()


def test_it_ends_when_it_is_told_to(played: Played) -> None:
    played.first.send_signal(signal.SIGINT)
    assert played.first.wait(30) == 0
    assert "Abort" not in played.said()


def test_a_folder_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    refused = run("demo", "--exit", "--port", "0", environment=MINIMAL, directory=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.decode().startswith("error: var")
    assert refused.stderr.decode().count("\n") == 1
