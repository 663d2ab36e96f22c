"""A server takes its ports before it says that it serves; what it can't have is named with its setting."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli.listening import PortUnusable, taken
from broker.keystore.local import MasterKeys
from tests.support.commands import MINIMAL, run


@pytest.fixture
def others() -> Iterator[int]:
    """A port of this machine that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def environment(directory: Path, url: str, **more: object) -> dict[str, str]:
    MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
    given = {"BROKER_STATE_DIR": directory, "BROKER_DATABASE_URL": url, "BROKER_PORT": 0, **more}
    return {**MINIMAL, **{name: str(value) for name, value in given.items()}}


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (("serve",), "BROKER_PORT"),
        (("serve", "--workers", "2"), "BROKER_PORT"),
        (("serve",), "BROKER_METRICS_PORT"),
        (("worker",), "BROKER_WORKER_PORT"),
    ],
)
def test_a_taken_port_is_one_message_that_names_its_setting(
    tmp_path: Path, postgres_url: str, others: int, words: tuple[str, ...], setting: str
) -> None:
    refused = run(*words, environment=environment(tmp_path, postgres_url, **{setting: others}))
    assert refused.returncode == 1
    said = refused.stderr.decode()
    assert said == (
        f"error: {setting}: something else listens on 127.0.0.1:{others}; end it, or set {setting} to another port.\n"
    )
    assert refused.stdout == b"", "nothing is served, and nobody becomes an admin of it"


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", "a..b"])
def test_an_address_that_is_not_this_machines_is_named(tmp_path: Path, sqlite_url: str, host: str) -> None:
    refused = run("serve", environment=environment(tmp_path, sqlite_url, BROKER_HOST=host))
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.decode().startswith(f"error: BROKER_HOST: {host} ")
    assert b"such as 127.0.0.1" in refused.stderr
    assert refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.EACCES, "to a port from 1024 on"), (errno.ENOBUFS, "can't be listened on")]
)
def test_a_port_that_the_system_does_not_give_is_named(monkeypatch: pytest.MonkeyPatch, number: int, fix: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(PortUnusable, match=rf"BROKER_PORT: .*127\.0\.0\.1:80.*{fix}"):
        taken("BROKER_PORT", "127.0.0.1", 80)


def test_a_name_that_has_several_addresses_is_listened_on_at_each_that_is_here(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    def several(*_: object, **__: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host, port in (("192.0.2.1", 0), ("127.0.0.1", 0), ("127.0.0.2", others))
        ]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(one) for one in taken("BROKER_PORT", "here.example", 0)]
        assert [one.getsockname()[0] for one in found] == ["127.0.0.1", "127.0.0.2"]


def test_of_two_addresses_no_one_is_kept_where_another_has_the_second(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    def several(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, others)) for host in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    with pytest.raises(PortUnusable, match="something else"):
        taken("BROKER_PORT", "here.example", others)
    with socket.create_server(("127.0.0.2", others)):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_it_is_said_that_the_broker_serves_once_it_answers(tmp_path: Path, postgres_url: str, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = environment(tmp_path, postgres_url, BROKER_PORT=port, PYTHONUNBUFFERED=1)
    command = [sys.executable, "-m", "broker", "serve", "--workers", str(workers)]
    with subprocess.Popen(command, env=given, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(line.startswith("Keybroker serves ") for line in process.stdout)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
                asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert asking.recv(15) == b"HTTP/1.1 200 OK"
        finally:
            process.terminate()
            assert process.wait(30) in {0, -15}
