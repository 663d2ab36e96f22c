"""``broker exec``: a command has access for as long as it runs, and learns nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.served import RAPTOR, ClientBench, client_bench, open_
from tests.support.commands import MINIMAL, run
from tests.support.waiting import eventually

ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
CALL = """
import os, time, urllib.request
time.sleep(float(os.environ.get("PAUSE", "0")))
headers = {"Authorization": "Bearer " + os.environ["UPSTREAM_TOKEN"]}
request = urllib.request.Request(os.environ["UPSTREAM_URL"] + "/facilities", headers=headers)
print(urllib.request.urlopen(request).status)
"""
SIGNALS = """
import os, signal, sys
def told(number, _frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
    if number == signal.SIGTERM:
        sys.exit(7)
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), told)
print("ready", os.getppid(), flush=True)
while True:
    signal.pause()
"""
SENDERS = """
import os, signal
awaited = {signal.SIGINT, signal.SIGUSR1, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print("ready", os.getppid(), flush=True)
while True:
    seen = signal.sigwaitinfo(awaited)
    sender = "terminal" if seen.si_code > 0 else "process"
    os.write(1, f"{signal.Signals(seen.si_signo).name} by {sender}\\n".encode())
    if seen.si_signo == signal.SIGTERM:
        raise SystemExit(7)
"""
WAITS = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"passed on\\n"))
print("ready", flush=True)
sys.stdin.read()
print("went on")
sys.exit(5)
"""
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@dataclass
class JobsShell:
    """The shell of somebody with the job's identity file, and with secrets in their environment."""

    bench: ClientBench
    directory: Path

    @property
    def identity(self) -> Path:
        return self.directory / "sync.identity.json"

    def words(self, *words: str) -> list[str]:
        return ["exec", "--identity", str(self.identity), "--org", "acme", "--provider", RAPTOR, *words]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **MINIMAL,
            "HOME": str(self.directory),
            "MINE": "kept",
            "BROKER_IDENTITY": str(self.identity),
            "BROKER_TOKEN": "kbo_secret",
            "BROKER_MASTER_KEYS": "a:secret",
        }

    def start(self, *words: str, inside: Sequence[str] = ()) -> subprocess.Popen[str]:
        """The program itself under way, in a session of its own; ``inside`` another one that starts it."""
        return subprocess.Popen(
            [*inside, sys.executable, "-m", "broker", *self.words(*words)],
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    async def run(self, *words: str, status: int = 0, given: str = "") -> tuple[str, str]:
        """What a copy of it printed on standard output and standard error."""
        done = await asyncio.to_thread(
            run, *self.words(*words), environment=self.environment, directory=self.directory, given=given.encode()
        )
        output, errors = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == status, errors
        assert "Traceback" not in errors
        return output, errors


@pytest.fixture
async def shell(tmp_path: Path, sqlite_url: str) -> AsyncIterator[JobsShell]:
    async with client_bench(tmp_path, sqlite_url) as bench, open_(bench):
        made = JobsShell(bench, tmp_path)
        bench.identity.write(made.identity)
        yield made


def python(program: str, *arguments: str) -> list[str]:
    return ["--", sys.executable, "-c", program, *arguments]


async def test_a_command_has_the_upstreams_address_and_a_token_while_it_runs(shell: JobsShell) -> None:
    await shell.bench.grant(purpose_required=True)
    output, errors = await shell.run("--purpose", "report", "--ttl", "60", *python(CALL))
    assert (output, errors) == ("200\n", "")
    assert await shell.bench.states() == ["ended"]
    (issued,) = await shell.bench.world.events(kind="lease.issued")
    assert issued["personal"]["note"] == "report"


async def test_the_environment_is_the_callers_without_anything_of_the_brokers(shell: JobsShell) -> None:
    await shell.bench.grant()
    seen = json.loads(
        (await shell.run("--url-env", "RAPTOR_URL", "--token-env", "RAPTOR_TOKEN", *python(ENVIRONMENT)))[0]
    )
    assert seen["MINE"] == "kept"
    assert seen["RAPTOR_URL"].startswith(f"{shell.bench.url}/proxy/org_")
    assert seen["RAPTOR_TOKEN"].startswith("kbl_")
    assert not [name for name in seen if name.startswith(("BROKER_", "UPSTREAM_"))]


async def test_words_and_standard_input_pass_as_they_are_and_by_no_shell(shell: JobsShell) -> None:
    await shell.bench.grant()
    program = "import sys; print(sys.argv[1:], sys.stdin.read())"
    output, _ = await shell.run(*python(program, "$HOME; exit 3", "*", "--", "--org", "x"), given="piped")
    assert output == "['$HOME; exit 3', '*', '--', '--org', 'x'] piped\n"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
        ("import os; os.kill(os.getpid(), 13)", 128 + 13),  # which Python, but no other program, ignores
    ],
)
async def test_the_status_is_the_commands(shell: JobsShell, program: str, status: int) -> None:
    await shell.bench.grant()
    program = "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL);" + program if "13" in program else program
    assert (await shell.run(*python(program), status=status)) == ("", "")
    assert await shell.bench.states() == ["ended"]


async def test_what_cannot_be_run_is_named(shell: JobsShell) -> None:
    await shell.bench.grant()
    plain = shell.directory / "plain"
    plain.write_text("no program")
    _, errors = await shell.run("--", "no-such-command-anywhere", status=127)
    assert "no-such-command-anywhere: there is no such command" in errors
    _, errors = await shell.run("--", str(plain), status=126)
    assert "plain: can't be run (Permission denied)" in errors
    plain.chmod(0o700)
    _, errors = await shell.run("--", str(plain), status=126)
    assert "plain: can't be run (Exec format error)" in errors
    assert await shell.bench.states() == ["ended"] * 3


async def test_without_a_lease_nothing_is_started(shell: JobsShell) -> None:
    started = shell.directory / "started"
    _, errors = await shell.run("--", "touch", str(started), status=1)
    assert "No standing grant covers this organization and provider" in errors
    assert "[no_grant]" in errors
    shell.identity.chmod(0o644)
    _, errors = await shell.run("--", "touch", str(started), status=1)
    assert "others can read it" in errors
    assert not started.exists()


async def test_signals_are_passed_on_and_the_command_decides(shell: JobsShell) -> None:
    await shell.bench.grant()
    names = ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTERM"]
    process = shell.start(*python(SIGNALS, *names))

    def use() -> tuple[list[str], str]:
        assert process.stdout is not None
        assert process.stdout.readline() == f"ready {process.pid}\n"
        said = []
        for name in names:
            process.send_signal(getattr(signal, name))
            said.append(process.stdout.readline().strip())
        return said, process.communicate(timeout=30)[1]

    assert await asyncio.to_thread(use) == (names, "")
    assert process.returncode == 7
    assert await shell.bench.states() == ["ended"]


async def test_a_command_that_a_passed_on_signal_kills_ends_its_lease_too(shell: JobsShell) -> None:
    await shell.bench.grant()
    process = shell.start("--", "sh", "-c", "echo ready; exec sleep 60")

    def use() -> None:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        process.communicate(timeout=30)

    await asyncio.to_thread(use)
    assert process.returncode == 128 + signal.SIGTERM
    assert await shell.bench.states() == ["ended"]


async def test_a_signal_that_comes_before_the_command_starts_keeps_it_from_starting(
    shell: JobsShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shell.bench.grant()
    issue, asked, told = shell.bench.world.services.leasing.issue, asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any, **options: Any) -> Any:
        asked.set()
        await told.wait()
        return await issue(*arguments, **options)

    monkeypatch.setattr(shell.bench.world.services.leasing, "issue", slowly)
    # whoever started it ignores the signal, and so would the command: one that was started would say so
    process = shell.start("--", "echo", "started", inside=["sh", "-c", "trap '' TERM; exec \"$@\"", "sh"])
    await asked.wait()
    process.terminate()
    told.set()
    assert (await asyncio.to_thread(process.communicate, None, 30))[0] == ""
    assert process.returncode == 128 + signal.SIGTERM
    assert await shell.bench.states() == ["ended"]


async def test_an_interrupt_from_the_terminal_reaches_the_command_once(shell: JobsShell) -> None:
    await shell.bench.grant()
    process = shell.start(*python(SENDERS), inside=[sys.executable, "-c", TERMINAL])

    def use() -> list[str]:
        assert process.stdin is not None
        assert process.stdout is not None
        warned = process.stdout.readline()
        assert "Absolute URLs in the bodies of answers (a `next` link) lead past the broker" in warned
        ours = int(process.stdout.readline().split()[1])
        # the command takes it before ours looks, so that a second one would be seen as one
        os.kill(ours, signal.SIGSTOP)
        process.stdin.write("\x03")
        process.stdin.flush()
        said = [process.stdout.readline().strip()]
        os.kill(ours, signal.SIGCONT)
        for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
            os.kill(ours, number)
            said.append(process.stdout.readline().strip())
        process.communicate(timeout=30)
        return said

    # The terminal's own echo stands before whichever line came next.
    said = [line.removeprefix("^C") for line in await asyncio.to_thread(use)]
    assert said == ["SIGINT by terminal", "SIGUSR1 by process", "SIGINT by process", "SIGTERM by process"]
    assert process.returncode == 7
    assert await shell.bench.states() == ["ended"]


async def test_the_lease_is_renewed_while_the_command_runs(shell: JobsShell) -> None:
    await shell.bench.grant()
    process = shell.start("--ttl", "3", *python("import sys; sys.stdin.read()\n" + CALL))

    async def renewed_twice() -> bool:  # which is longer than the lease was for at first
        assert process.poll() is None, process.communicate()
        return await shell.bench.count("lease.renewed") >= 2

    await eventually(renewed_twice)
    assert await asyncio.to_thread(process.communicate, None, 30) == ("200\n", "")
    assert process.returncode == 0
    assert await shell.bench.count("lease.issued") == 1
    assert await shell.bench.count("lease.renewed") >= 2


def looked_again(process: subprocess.Popen[str]) -> None:
    """Have it look at its lease several times: it does before it passes a signal on."""
    assert process.stdout is not None
    for _ in range(3):
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "passed on\n"


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What is left of its output and errors once its command may end."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    with process.stdout, process.stderr:
        left = process.stdout.read(), process.stderr.read()
    assert process.wait(30) == 5
    return left


async def test_it_is_said_once_that_the_grant_allows_no_longer(shell: JobsShell) -> None:
    await shell.bench.grant(max_ttl=3)
    process = shell.start("--ttl", "2", *python(WAITS))

    def use() -> tuple[str, str]:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        near = process.stderr.readline()
        looked_again(process)
        over = process.stderr.readline()
        looked_again(process)
        assert ended(process) == ("went on\n", "")
        return near, over

    near, over = await asyncio.to_thread(use)
    assert re.search("the lease ends in [012] s, the grant allows no longer", near)
    assert "access has ended" in over
    assert "[lease_over]" in over


async def test_a_cut_off_is_said_and_the_command_goes_on(shell: JobsShell) -> None:
    grant = await shell.bench.grant()
    process = shell.start("--ttl", "2", *python(WAITS))
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    await shell.bench.world.call("POST", f"/v1/grants/{grant}/revoke", json={"reason": "leak"})

    def use() -> str:
        assert process.stderr is not None
        said = process.stderr.readline()
        looked_again(process)
        assert ended(process) == ("went on\n", "")
        return said

    said = await asyncio.to_thread(use)
    assert said.count("access has ended: The grant behind this lease was revoked") == 1
    assert "[grant_revoked]" in said


async def test_a_revealed_key_is_in_its_variable_and_nowhere_else(shell: JobsShell) -> None:
    await shell.bench.grant(modes=["use", "reveal"])
    key = shell.bench.world.upstream_keys["acme"]
    file = shell.directory / "seen.json"
    program = """
import json, os, sys
lines = {pid: open(f"/proc/{pid}/cmdline").read() for pid in (os.getpid(), os.getppid())}
environment = open(f"/proc/{os.getppid()}/environ").read()
json.dump([dict(os.environ), lines, environment], open(sys.argv[1], "w"))
"""
    process = shell.start("--reveal", "RAPTOR_API_KEY", *python(program, str(file)))
    output, errors = await asyncio.to_thread(process.communicate, None, 30)
    assert process.returncode == 0, errors
    seen, lines, environment = json.loads(file.read_text())
    assert seen.pop("RAPTOR_API_KEY") == key
    assert not [name for name in seen if name.startswith(("BROKER_", "UPSTREAM_"))]
    assert key not in json.dumps([seen, lines, environment, output, errors])
    assert await shell.bench.states() == ["ended"]

    _, errors = await shell.run("--reveal", "RAPTOR_API_KEY", "--", "no-such-command-anywhere", status=127)
    assert key not in errors


async def test_a_key_that_may_not_be_seen_is_not_revealed(shell: JobsShell) -> None:
    await shell.bench.grant()
    _, errors = await shell.run("--reveal", "RAPTOR_API_KEY", "--", "true", status=1)
    assert "[mode_not_granted]" in errors


async def test_a_name_that_no_variable_can_have_is_refused(shell: JobsShell) -> None:
    _, errors = await shell.run("--reveal", "A=B", "--", "true", status=2)
    assert "is not the name of an environment variable" in errors


async def test_a_bound_lease_is_used_through_an_address_of_this_machine(shell: JobsShell) -> None:
    await shell.bench.grant(bound=True)
    printed, _ = await shell.run("--", sys.executable, "-c", CALL + ENVIRONMENT)
    status, _, told = printed.partition("\n")
    environment = json.loads(told)
    assert status == "200"
    assert environment["UPSTREAM_URL"].startswith("http://127.0.0.1:")
    assert environment["UPSTREAM_URL"] != shell.bench.url
    assert environment["NO_PROXY"] == "127.0.0.1"
    assert await shell.bench.states() == ["ended"]


async def test_a_lease_may_be_bound_where_its_grant_does_not_ask_for_it(shell: JobsShell) -> None:
    await shell.bench.grant()
    printed, _ = await shell.run("--bound", "--", sys.executable, "-c", CALL)
    assert printed.strip() == "200"
    assert [lease["bound"] for lease in await shell.bench.leases()] == [True]


async def test_a_bound_token_that_nobody_could_use_is_not_printed(shell: JobsShell) -> None:
    await shell.bench.grant(bound=True)
    words = ["lease", *["issue" if word == "exec" else word for word in shell.words()]]
    done = await asyncio.to_thread(run, *words, environment=shell.environment, directory=shell.directory)
    assert done.returncode != 0
    assert b"broker exec" in done.stderr
    assert b"kbl_" not in done.stdout
    assert await shell.bench.states() == ["ended"]
