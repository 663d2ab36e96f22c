"""The protocol as ``broker serve`` runs it: in each of several processes, and when they are told to end."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from broker.keystore.local import MasterKeys
from tests.support.processes import free_port
from tests.support.program import Program

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"


def connected(port: int) -> socket.socket:
    until = time.monotonic() + 60
    while True:
        with suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        assert time.monotonic() < until, "nobody listens"
        time.sleep(0.1)


def answer(stranger: socket.socket) -> tuple[int, bytes]:
    """One answer with its length: status and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += stranger.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    while len(body) < length:
        body += stranger.recv(65_536)
    return int(head.split()[1]), body


@pytest.mark.parametrize("workers", [1, 2])
def test_settings_hold_in_each_process_and_each_ends_at_once_when_told(
    workers: int, tmp_path: Path, postgres_url: str
) -> None:
    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    port = free_port()
    program = Program(
        tmp_path,
        postgres_url,
        "http://127.0.0.1:1",
        port,
        more={"BROKER_HTTP_REQUEST_FIELDS": "20"},
        options=("--workers", str(workers)),
    )
    try:
        # given connections that are idle, and one that is within a request, at whatever process took them
        idle = [connected(port) for _ in range(12)]
        for stranger in idle:
            stranger.sendall(GET + b"\r\n")
            assert answer(stranger)[0] == 200
        halfway = connected(port)
        halfway.sendall(b"POST /v1/leases HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        for _ in range(12):
            with connected(port) as stranger:
                stranger.sendall(GET + b"A: b\r\n" * 20 + b"\r\n")
                status, body = answer(stranger)
                assert (status, json.loads(body)["code"]) == (431, "head_too_large")

        # when they are told to end, then idle ones are closed at once, and the process ends without waiting for others
        program.stop()
        for stranger in idle:
            assert stranger.recv(10) == b""
            stranger.close()
        halfway.close()
        assert program.process.returncode in {0, -signal.SIGTERM}
    finally:
        program.kill()
