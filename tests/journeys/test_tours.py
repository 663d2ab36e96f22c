"""The documents' tours, pasted whole into a shell: the program itself, in a fresh folder, line by line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from broker.client.submission import submit_key
from tests.support.commands import MINIMAL
from tests.support.processes import free_port, listens
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
_DONE = "line done: "
# Every line is a process of its own, and most start Python: a busy machine needs minutes.
_WITHIN = pytest.mark.timeout(300)


@dataclass
class Line:
    """A command as it is pasted, its status and what it printed."""

    text: str
    status: int
    said: str


@dataclass
class PastedShell:
    """Somebody's bash, which runs what is pasted into it.

    Beside each other, tests can't have the ports of the text: it is run with these.
    """

    bash: subprocess.Popen[str]
    home: Path
    port: int
    sandbox_port: int
    lines: list[Line] = field(default_factory=list)

    def paste(self, block: str) -> None:
        """Every line of a block, each after the one before has ended."""
        for text in commands(block):
            self._run(text)

    def _run(self, text: str) -> None:
        typed, told = self._streams()
        typed.write(f"{self._on_own_ports(text)}\n_status=$?; echo; echo '{_DONE}'$_status\n")
        typed.flush()
        said = ""
        while not (line := told.readline()).startswith(_DONE):
            assert line, f"{text}: the shell has ended\n{said}"
            said += line
        self.lines.append(Line(text, int(line.removeprefix(_DONE)), said))

    def _streams(self) -> tuple[IO[str], IO[str]]:
        assert self.bash.stdin is not None
        assert self.bash.stdout is not None
        return self.bash.stdin, self.bash.stdout

    def _on_own_ports(self, text: str) -> str:
        text = re.sub("broker sandbox (?=>|--providers)", f"broker sandbox --port {self.sandbox_port} ", text)
        return text.replace("localhost:8080", f"localhost:{self.port}")

    def said_by(self, start: str) -> str:
        """What the lines printed that begin so."""
        found = [line.said for line in self.lines if line.text.startswith(start)]
        assert found, start
        return "".join(found)

    def failures(self) -> str:
        """The lines that failed, with all that they said, and the servers' logs."""
        failed = "".join(f"{one.status} {one.text}\n{one.said}\n" for one in self.lines if one.status)
        return failed and failed + "".join(log.read_text() for log in self.home.rglob("*.log"))


@contextmanager
def fresh_machine(directory: Path) -> Iterator[PastedShell]:
    """A shell in a clone in which ``make demo`` has run, of somebody who has nothing else."""
    clone, home = directory / "clone", directory / "home"
    clone.mkdir()
    home.mkdir()
    (clone / ".venv").symlink_to(sys.prefix)
    port = free_port()
    url = f"http://localhost:{port}"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONPATH": MINIMAL["PYTHONPATH"],
        "BROKER_PORT": str(port),
        "BROKER_PUBLIC_URL": url,
        "BROKER_URL": url,
    }
    bash = subprocess.Popen(
        ["bash"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=clone,
        start_new_session=True,
    )
    try:
        yield PastedShell(bash, home, port, free_port())
    finally:
        with suppress(ProcessLookupError):  # and what it left running
            os.killpg(bash.pid, signal.SIGKILL)
        bash.communicate()


def commands(block: str) -> Iterator[str]:
    """The commands of a block: a line each, or several where a quote or a backslash goes on."""
    begun = ""
    for line in block.splitlines():
        begun += line + "\n"
        whole = subprocess.run(["bash", "-n"], input=begun, text=True, capture_output=True, check=False)
        if not line.endswith("\\") and whole.returncode == 0:
            yield begun.rstrip("\n")
            begun = ""
    assert not begun, begun


def blocks(document: str, heading: str = "") -> list[str]:
    """The fenced shell blocks of a document, or of one of its sections."""
    text = (ROOT / document).read_text()
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def give_key(shell: PastedShell, organization: str) -> None:
    """What the customer does, on the page behind the link that was printed."""
    link = shell.said_by(f"broker key request --org {organization}").split("http", 1)[1].split()[0]
    key = shell.said_by(f"broker sandbox --mint {organization}").strip()
    assert submit_key(f"http{link}", key.encode())["state"] == "accepted"


@_WITHIN
async def test_the_readmes_tour_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    tour = blocks("README.md", "Five minutes")
    with fresh_machine(tmp_path) as shell:
        for block in tour[:-1]:
            shell.paste(block)
        give_key(shell, "globex")
        # and the tutorial goes on from there
        asked, *used = blocks("docs/tutorial/README.md")
        shell.paste(asked)
        give_key(shell, "initech")
        for block in used:
            shell.paste(block)
        shell.paste(tour[-1])
        assert shell.failures() == ""
        await eventually(lambda: not listens(shell.port) and not listens(shell.sandbox_port))
    assert '"database":"ok"' in shell.said_by("curl")
    assert "You are ada (admin)" in shell.said_by("broker operator bootstrap")
    assert "active" in shell.said_by("broker key list")
    assert "kbl_" in shell.said_by("broker lease issue")
    assert shell.said_by("broker exec").count("Riverside Substation") == 2
    assert "credential.revoked" in shell.said_by("broker audit search --org acme")
    assert "use.authorized" in shell.said_by("broker audit search --org initech")


@_WITHIN
async def test_the_tour_over_http_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    with fresh_machine(tmp_path) as shell:
        for block in blocks("docs/tutorial/over-http.md"):
            shell.paste(block)
        assert shell.failures() == ""
        await eventually(lambda: not listens(shell.port) and not listens(shell.sandbox_port))
    assert '"link":' in shell.said_by('call "$B/v1/intakes"')
    assert '"verdict":"active"' in shell.said_by("echo")
    assert '"access_token":' in shell.said_by('curl -sS --fail-with-body "$B/oauth/token"')
    used, refused = shell.said_by('curl -sS --fail-with-body "$B/proxy'), shell.said_by('curl -sS "$B/proxy')
    assert "Riverside Substation" in used
    assert '"key_revoked"' in refused
    assert '"credential.revoked"' in shell.said_by('call "$B/v1/audit/events')


def test_lines_are_pasted_into_any_shell() -> None:
    """No comment is among them, which zsh takes for a command."""
    tutorial = [*blocks("docs/tutorial/README.md"), *blocks("docs/tutorial/over-http.md")]
    for block in [*blocks("README.md", "Five minutes"), *tutorial]:
        for line in commands(block):
            assert not re.search(r"(^|\s)#", line), line
