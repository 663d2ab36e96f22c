"""Help and completion: what they say, and that they import only what they need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from broker.cli import TABLE, build
from tests.support.commands import MINIMAL

# What only the server needs; and what a job's machine has, but help doesn't need.
SERVERS = {"alembic", "asyncpg", "fastapi", "opentelemetry", "sqlalchemy", "starlette", "structlog", "uvicorn"}
CALLS = {"cryptography", "httpx2", "joserfc"}

_IMPORTED = """
import atexit, sys
atexit.register(lambda: print("imported", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
if sys.argv[1] == "without":
    sys.modules["fastapi"] = None
    import importlib.util as util
    real, util.find_spec = util.find_spec, lambda name, *rest: None if name == "fastapi" else real(name, *rest)
sys.argv[:2] = ["broker"]
from broker.cli import main
main()
"""


def broker(*words: str, installed: str = "with", **more: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """The program in a process of its own, and the top-level names of the modules that it had imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, installed, *words],
        env={**MINIMAL, "HOME": "/nonexistent", **more},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said, _, imported = done.stderr.rpartition("imported ")
    return subprocess.CompletedProcess(words, done.returncode, done.stdout, said), set(imported.split())


def completed(line: str, **more: str) -> tuple[list[str], set[str]]:
    """What a TAB at the end of ``line`` offers, as bash asks for it; and what was imported for it."""
    words = line.split(" ")
    asked = {"_BROKER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), **more}
    done, imported = broker(**asked)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines(), imported


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with the words that lead to it."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


EVERY = list(commands(get_command(build())))


@pytest.mark.parametrize(
    "words",
    [("--help",), ("-h",), (), ("serve", "--help"), ("keystore", "audit", "-h"), ("lease", "-h"), ("exec", "--help")],
    ids=" ".join,
)
def test_help_imports_neither_the_server_nor_a_client(words: tuple[str, ...]) -> None:
    done, imported = broker(*words)
    assert "Usage" in done.stdout + done.stderr
    assert imported & (SERVERS | CALLS) == set()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("broker ", {"org", "key", "serve", "keystore"}),
        ("broker key", {"key", "keystore"}),
        ("broker serve --w", {"--worker", "--workers"}),
        ("broker keystore ", {"audit", "migrate"}),
        ("broker keystore migrate --to ", {"local", "vault-kv"}),
    ],
)
def test_a_tab_imports_neither_the_server_nor_a_client(line: str, offered: set[str]) -> None:
    found, imported = completed(line)
    assert offered <= set(found)
    assert imported & (SERVERS | CALLS) == set()


def test_what_no_command_can_be_told_needs_the_server_or_a_client() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from tests.cli.test_help import EVERY; print(*sys.modules)"],
        env=MINIMAL,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert {name.partition(".")[0] for name in done.stdout.split()} & (SERVERS | CALLS) == set()


def test_a_call_to_the_broker_needs_no_cryptography_of_a_jobs() -> None:
    _, imported = broker("org", "list", BROKER_TOKEN="kbo_x", BROKER_URL="http://127.0.0.1:1")
    assert imported & (SERVERS | CALLS) == {"httpx2"}


@pytest.mark.parametrize("words", [("serve",), ("keystore", "status"), ("doctor", "--help")], ids=" ".join)
def test_where_the_servers_parts_are_missing_its_commands_name_what_to_install(words: tuple[str, ...]) -> None:
    done, _ = broker(*words, installed="without", COLUMNS="200")
    assert done.returncode == 2
    assert f"`broker {words[0]}` needs the server's parts: install keybroker[server]." in done.stderr
    assert "serve" in broker("--help", installed="without")[0].stdout


def test_the_table_says_what_the_commands_say() -> None:
    for words, command in EVERY:
        if len(words) == 1:
            assert command.help.startswith(TABLE[words[0]].about.rstrip(".")), words


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_by_both_names(flag: str) -> None:
    for words, _ in EVERY:
        done = CliRunner().invoke(build(), [*words, flag])
        assert (done.exit_code, "Usage" in done.output) == (0, True), (words, done.output)
