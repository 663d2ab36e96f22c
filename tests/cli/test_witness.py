"""``broker witness``: it begins with its name and the logs that it watches, and says what is wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.formats.cosignature import WitnessKey
from broker.formats.ml_dsa import MlDsaSigner
from tests.support.commands import MINIMAL, run
from tests.support.logs import SIGNER

LOG = SIGNER.verifier().line()


def said_by(directory: Path, *words: str, status: int = 0) -> str:
    """One ``broker witness`` to its end; what it printed, or its one line of error."""
    done = run("witness", *words, environment=MINIMAL, directory=directory)
    assert done.returncode == status, done.stderr.decode()
    if not status:
        return done.stdout.decode()
    assert done.stderr.decode().count("\n") == 1, done.stderr.decode()
    return done.stderr.decode()


@contextmanager
def witness(directory: Path, *options: str) -> Iterator[dict[str, object]]:
    """``broker witness serve --json`` as it serves, and what it said."""
    command = [sys.executable, "-m", "broker", "witness", "serve", "--json", "--port", "0", *options]
    with subprocess.Popen(command, env=MINIMAL, cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_its_key_is_made_once_and_is_what_it_serves_with(tmp_path: Path) -> None:
    assert "--name" in said_by(tmp_path, "key", status=1)
    line = said_by(tmp_path, "key", "--name", "w.example").strip()
    assert WitnessKey.read(line).name == "w.example"
    assert json.loads(said_by(tmp_path, "key", "--json")) == {"key": line}
    assert "is w.example" in said_by(tmp_path, "key", "--name", "v.example", status=1)
    logs = tmp_path / "logs.txt"
    ml_dsa = MlDsaSigner(SIGNER.name, bytes(32)).key().line()
    logs.write_text(f"# the vendor's\n\n{ml_dsa}\n{LOG}\n")
    with witness(tmp_path, "--logs", str(logs)) as said:
        assert (said["key"], said["watches"]) == (line, [SIGNER.name])
        # and there is one of it
        assert "already" in said_by(tmp_path, "serve", "--logs", str(logs), status=1)
        assert said_by(tmp_path, "key").strip() == line


def test_what_it_is_told_wrongly_is_said_with_its_fix(tmp_path: Path) -> None:
    named = ("serve", "--name", "w.example")
    assert "--log" in said_by(tmp_path, *named, status=1)
    assert "/v1/audit/log/key" in said_by(tmp_path, *named, "--log", f"{LOG[:-4]}AAAA", status=1)
    assert "can't be read" in said_by(tmp_path, *named, "--logs", "nowhere.txt", status=1)
    (tmp_path / "logs.txt").write_bytes(b"\xff")
    assert "is not a text of keys" in said_by(tmp_path, *named, "--logs", "logs.txt", status=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "--port: something else listens" in said_by(tmp_path, *named, "--log", LOG, "--port", port, status=1)
    assert "--host" in said_by(tmp_path, *named, "--log", LOG, "--host", "192.0.2.1", status=1)
    (tmp_path / "var/witness/witness.key").chmod(0o644)
    assert "chmod 600" in said_by(tmp_path, *named, "--log", LOG, status=1)
