"""An operator's stored account: its token goes to the broker that it is for, and the file is nobody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from broker.cli.account import Account, remember
from broker.client.identity import Identity, generate
from tests.support.certificates import certify, serving_tls
from tests.support.commands import MINIMAL, run

TOKEN = "kbo_" + "t" * 49
ELSEWHERE = "https://keys.vendor.example"


class Listener(HTTPServer):
    """Somebody who takes whatever is sent: ``tokens`` are what came along."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Asked)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    """One request."""

    server: Listener

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers["Authorization"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"items": [], "next": ""}')

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


class Home:
    """Somebody's home directory with a stored account."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = remember(ELSEWHERE, TOKEN)

    def said(self, status: int, **more: str) -> str:
        """What `broker org list` says."""
        environment = {**MINIMAL, "XDG_CONFIG_HOME": str(self.directory), **more}
        done = run("org", "list", environment=environment, directory=self.directory)
        assert done.returncode == status, done.stderr.decode()
        return (done.stderr if status else done.stdout).decode()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return Home(tmp_path)


def test_the_stored_token_goes_to_no_broker_but_its_own(home: Home, listener: Listener) -> None:
    said = home.said(1, BROKER_URL=listener.url)
    assert f"The stored token is for {ELSEWHERE}" in said
    assert "BROKER_TOKEN" in said
    assert "`broker login`" in said
    assert listener.tokens == []
    # a token that is named for it goes, and so does the stored one once it is that broker's
    assert home.said(0, BROKER_URL=listener.url, BROKER_TOKEN="named") == "Nothing yet.\n"
    remember(listener.url, TOKEN)
    assert home.said(0) == home.said(0, BROKER_URL=listener.url + "/") == "Nothing yet.\n"
    assert listener.tokens == ["Bearer named", f"Bearer {TOKEN}", f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://keys.vendor.example/", True),
        ("HTTPS://KEYS.vendor.example:443", True),
        ("http://keys.vendor.example", False),
        ("https://keys.vendor.example:8443", False),
        ("https://keys.vendor.example.evil.example", False),
        ("https://keys.vendor.example@evil.example", False),
        ("https://keys.vendor.example\\.evil.example", False),
        ("https://[", False),
    ],
)
def test_a_broker_is_its_scheme_host_and_port(url: str, same: bool) -> None:
    assert Account(ELSEWHERE, TOKEN).is_for(url) is same


@pytest.mark.parametrize("url", ["http://keys.vendor.example", "http://10.0.0.1:8080", "http://127.0.0.1.evil.example"])
def test_no_token_goes_over_http_but_to_this_machine(home: Home, url: str) -> None:
    remember(url, TOKEN)  # as an older version did
    for more in ({}, {"BROKER_URL": url}, {"BROKER_URL": url, "BROKER_TOKEN": "named"}):
        assert "use the broker's https:// address" in home.said(1, **more)


@pytest.mark.parametrize("words", [("lease", "list"), ("exec", "--org", "acme", "--provider", "x", "--", "true")])
def test_no_assertion_goes_over_http_but_to_this_machine(tmp_path: Path, words: tuple[str, ...]) -> None:
    file = tmp_path / "job.json"
    Identity("http://keys.vendor.example", "wkl_1", generate()).write(file)
    done = run(*words, environment={**MINIMAL, "BROKER_IDENTITY": str(file)}, directory=tmp_path)
    assert (done.returncode, b"[insecure_address]" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o602, 0o666])
def test_an_account_that_others_read_or_write_is_refused(home: Home, mode: int) -> None:
    if mode == 0o640 and os.geteuid() == 0:
        os.chown(home.file, 12345, 12345)
    home.file.chmod(mode)
    assert f"chmod 600 {home.file}" in home.said(1)


def test_an_account_in_a_folder_that_others_write_is_refused(home: Home) -> None:
    for mode in (0o770, 0o707, 0o1777):
        home.file.parent.chmod(mode)
        assert f"run: chmod go-w {home.file.parent}" in home.said(1)


def test_an_account_behind_a_link_is_judged_where_it_is(home: Home) -> None:
    shared = home.directory / "shared"
    shared.mkdir()
    moved = home.file.rename(shared / "account.json")
    home.file.symlink_to(moved)
    moved.chmod(0o666)
    assert f"chmod 600 {home.file}" in home.said(1)
    moved.chmod(0o600)
    shared.chmod(0o777)
    assert f"run: chmod go-w {shared}" in home.said(1)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_an_account_that_is_somebody_elses_is_refused(home: Home) -> None:
    os.chown(home.file.parent, 12345, 12345)
    assert f"{home.file.parent}: belongs to somebody else" in home.said(1)
    os.chown(home.file.parent, 0, 0)
    os.chown(home.file, 12345, 12345)
    assert f"{home.file}: belongs to somebody else" in home.said(1)


def test_where_address_and_token_are_given_no_account_is_read(home: Home, listener: Listener) -> None:
    home.file.chmod(0o666)
    home.said(0, BROKER_URL=listener.url, BROKER_TOKEN="named")
    assert listener.tokens == ["Bearer named"]


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080", "http://localhost:8080"),
        ("keys.vendor.example", "https://keys.vendor.example"),
        ("http://", ""),
        ("http:keys.vendor.example", ""),
        ("ftp://keys.vendor.example", ""),
    ],
)
def test_an_address_without_its_scheme_is_not_called(home: Home, url: str, meant: str) -> None:
    said = home.said(1, BROKER_URL=url, BROKER_TOKEN="named")
    assert "BROKER_URL: write the whole address, with https:// before it" in said
    assert f"Did you mean {meant}?" in said if meant else "mean" not in said


@pytest.mark.parametrize("token", ["kb\u00f6", "kbo_x\n", " kbo_x", "kbo_\u200bx", "kbo x", "kbo_\udcff"])
def test_what_can_be_no_token_is_sent_nowhere_and_said_to_be_none(home: Home, listener: Listener, token: str) -> None:
    said = home.said(1, BROKER_URL=listener.url, BROKER_TOKEN=token)
    assert "BROKER_TOKEN: this is no token" in said
    assert token not in said
    file = remember(listener.url, token.encode(errors="replace").decode())
    if "?" not in file.read_text():
        assert f"{file}: this is no token" in home.said(1)
    assert listener.tokens == []


def test_another_services_good_answer_is_not_taken_for_the_brokers(home: Home, listener: Listener) -> None:
    answers = run("whoami", environment={**MINIMAL, "BROKER_URL": listener.url, "BROKER_TOKEN": "named"})
    assert (answers.returncode, b"Traceback" in answers.stderr) == (3, False)
    assert f"{listener.url} answers, but not as a Keybroker".encode() in answers.stderr


def test_tls_where_none_is_spoken_is_named(home: Home, listener: Listener) -> None:
    url = listener.url.replace("http:", "https:")
    assert "does not speak TLS" in home.said(3, BROKER_URL=url, BROKER_TOKEN="named")


def test_an_untrusted_certificate_and_http_to_a_tls_port_are_named(home: Home, tmp_path: Path) -> None:
    with Listener() as server:
        certify(tmp_path)
        context = serving_tls(tmp_path)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            port = server.server_port
            said = home.said(3, BROKER_URL=f"http://127.0.0.1:{port}", BROKER_TOKEN="named")
            assert "if it speaks TLS, write https:// before it" in said
            said = home.said(3, BROKER_URL=f"https://127.0.0.1:{port}", BROKER_TOKEN="named")
            assert "The certificate of" in said
            assert "SSL_CERT_FILE" in said
        finally:
            server.shutdown()
            serving.join()
