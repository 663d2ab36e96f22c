"""Nothing that a person, a disk or a network can do shows a trace: every command says what failed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.cli.every_command import SERVERS, answering, commands
from tests.support.commands import MINIMAL, run

# They serve until somebody ends them, or become another program.
_GO_ON = frozenset({"serve", "worker", "demo", "sandbox", "exec"})
CLIENTS = list(commands(_GO_ON | SERVERS))
EVERY = list(commands(_GO_ON))


def plain(done: CompletedProcess[bytes], words: tuple[str, ...]) -> str:
    """What the command said, which is no trace."""
    said = done.stderr.decode()
    assert "Traceback" not in said, (words, said)
    assert "Exception ignored" not in said, (words, said)
    assert 0 <= done.returncode <= 5, (words, done.returncode, said)
    return said


def shell(home: Path, **more: str) -> Mapping[str, str]:
    return {**MINIMAL, "HOME": str(home), "BROKER_TOKEN": "kbo_x", **more}


@pytest.mark.parametrize("words", CLIENTS, ids=" ".join)
def test_without_a_broker(words: tuple[str, ...], tmp_path: Path) -> None:
    away = shell(tmp_path, BROKER_URL="http://127.0.0.1:9")
    done = run(*words, environment=away, directory=tmp_path, given=b"kbo_x\n")
    if said := plain(done, words):
        assert done.returncode or words[0] in {"scan", "provider"}, (words, said)


@contextmanager
def full_disk() -> Iterator[int]:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        yield full
    finally:
        os.close(full)


@contextmanager
def closed_pipe() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def test_onto_a_full_disk_and_into_a_closed_pipe(tmp_path: Path) -> None:
    with answering("x") as url, full_disk() as full, closed_pipe() as closed:
        here = shell(tmp_path, BROKER_URL=url)
        for words in EVERY:
            for given in (words, (*words, "--help")):
                done = run(*given, environment=here, directory=tmp_path, given=b"kbo_x\n", into=full)
                said = plain(done, given)
                assert done.returncode, given
                assert said or words[0] == "scan", given
            done = run(*words, "--help", environment=here, directory=tmp_path, into=closed)
            assert (plain(done, words), done.returncode) == ("", 1), words


def test_with_folders_that_take_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with answering("x") as url:
        here = shell(
            tmp_path, BROKER_URL=url, XDG_CONFIG_HOME=f"{file}/x", BROKER_STATE_DIR=f"{file}/x", TMPDIR="/proc"
        )
        for words in EVERY:
            plain(run(*words, environment=here, directory=Path("/proc/tty"), given=b"kbo_x\n"), words)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x80", b"null", b'{"jwk": {}}'])
def test_with_files_that_hold_something_else(content: bytes, tmp_path: Path) -> None:
    bad = tmp_path / "x"
    bad.write_bytes(content)
    bad.chmod(0o600)
    folder = tmp_path / ".config" / "keybroker"
    folder.mkdir(parents=True, mode=0o700)
    for name in ("account.json", "profile"):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    here = {
        **MINIMAL,
        "HOME": str(tmp_path),
        "BROKER_IDENTITY": str(bad),
        "BROKER_CONFIG": str(bad),
        "BROKER_MASTER_KEYS_FILE": str(bad),
    }
    for words in EVERY:
        plain(run(*words, environment=here, directory=tmp_path, given=b"kbo_x\n"), words)
