"""The nginx sites as they are shipped, before stand-ins of brokers; only addresses and paths of files are changed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from broker.config import Settings
from broker.formats import link_secret
from tests.deploy.tools import needs
from tests.support import changed_links
from tests.support.certificates import certify
from tests.support.processes import free_port, running

DEPLOY = Path(__file__).parents[2] / "deploy"
SITES = pytest.mark.parametrize(
    "site", [DEPLOY / "nginx.conf", DEPLOY / "compose" / "nginx.conf"], ids=["one broker", "two brokers"]
)
pytestmark = needs("nginx", package="nginx-light")


@dataclass
class Stand:
    """A broker's stand-in: what it was asked, its answer's headers, and whether it breaks off or hangs instead."""

    port: int = 0
    dies: bool = False
    hangs: bool = False
    called: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def stand_in() -> Iterator[Stand]:
    stand = Stand()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stand.asked.append((self.command, self.path, self.headers["X-Forwarded-For"]))
            stand.called.set()
            if stand.hangs:
                stand.over.wait()
            if stand.dies or stand.hangs:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            for name, value in stand.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        do_POST = do_GET  # noqa: N815 - the server's own names

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stand
        finally:
            stand.over.set()
            server.shutdown()
            thread.join()


@contextmanager
def served(site: Path, brokers: tuple[Stand, Stand], directory: Path) -> Iterator[httpx2.Client]:
    """A client of nginx with the site."""
    certify(directory)
    port = free_port()
    text = site.read_text()
    for shipped, here in {
        "/etc/ssl/keys.vendor.example.pem": f"{directory}/server.pem",
        "/run/secrets/site.pem": f"{directory}/server.pem",
        "/etc/ssl/private/keys.vendor.example.key": f"{directory}/server.key",
        "/run/secrets/site.key": f"{directory}/server.key",
        "/var/log/nginx/keybroker.log": f"{directory}/access.log",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "127.0.0.1:8080": f"127.0.0.1:{brokers[0].port}",
        "broker-1:8080": f"127.0.0.1:{brokers[0].port}",
        "broker-2:8080": f"127.0.0.1:{brokers[1].port}",
    }.items():
        text = text.replace(shipped, here)
    temporary = "".join(
        f"{name}_temp_path {directory}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = directory / "nginx.conf"
    whole.write_text(
        f"daemon off;\nworker_processes 1;\npid {directory}/pid;\nerror_log stderr info;\n"
        + ("user root;\n" if os.geteuid() == 0 else "")
        + f"events {{}}\nhttp {{\n{temporary}{text}\n}}\n"
    )
    command = [shutil.which("nginx") or "nginx", "-e", "stderr", "-p", str(directory), "-c", str(whole)]
    trusting = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    with (
        running(command, port=port, log=directory / "nginx.log"),
        httpx2.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting, timeout=30) as client,
    ):
        yield client


@SITES
def test_it_hands_calls_on_with_the_callers_address_and_logs_no_query(site: Path, tmp_path: Path) -> None:
    with stand_in() as one, stand_in() as two, served(site, (one, two), tmp_path) as client:
        assert client.get("/v1/organizations").text == "ok"
        given = {"X-Forwarded-For": "192.0.2.1"}
        assert client.get("/proxy/acme/raptor-comply/metrics?name=canary", headers=given).text == "ok"
        asked = one.asked + two.asked
    log = (tmp_path / "access.log").read_text()  # nginx writes it once it has answered
    assert sorted(asked) == [
        ("GET", "/proxy/acme/raptor-comply/metrics?name=canary", "127.0.0.1"),
        ("GET", "/v1/organizations", "127.0.0.1"),
    ]
    assert "/proxy/acme/raptor-comply/metrics" in log
    assert "canary" not in log


INTAKE = "int_" + "0123456789abcdef" * 2
SECRET = link_secret.encode(bytes(range(20)))


@SITES
@pytest.mark.parametrize("page", ["intake", "status"])
def test_what_follows_the_id_of_a_link_is_not_logged(site: Path, page: str, tmp_path: Path) -> None:
    ends = [*changed_links.sent(SECRET), f"/{SECRET}", f"/open/{SECRET}", SECRET, f"//{SECRET}"]
    odd = [f"/{page}/{SECRET}", f"//{page}/{INTAKE}%23{SECRET}", f"/x/../{page}/{INTAKE}%23{SECRET}"]
    with stand_in() as one, stand_in() as two, served(site, (one, two), tmp_path) as client:
        for path in [f"/{page}/{INTAKE}{end}" for end in ends] + odd:
            assert client.get(f"https://{client.base_url.netloc.decode()}{path}").text == "ok"
        client.post(f"/{page}/{INTAKE}/open")
        one.dies = two.dies = True
        assert client.post(f"/{page}/{INTAKE}%23{SECRET}").status_code == 502
    assert any(SECRET in target for _, target, _ in one.asked + two.asked), "it does reach the broker"
    log, errors = (tmp_path / "access.log").read_text(), (tmp_path / "nginx.log").read_text()
    assert f'"POST /{page}/{INTAKE}/open" 200' in log
    assert f'"GET /{page}/{INTAKE}..." 200' in log
    assert [line for line in (log + errors).splitlines() if SECRET in line] == []


ASKED = pytest.mark.parametrize(
    "path",
    ["/proxy/acme/pipedrive/deals", "/v1/leases", "/oauth/token", f"/intake/{INTAKE}/open", f"/status/{INTAKE}/read"],
)
TOKEN = "kbl_" + "canary" * 8


def hasty(site: Path, directory: Path) -> Path:
    """The site, but that it waits for a broker's answer for a moment only."""
    text = re.sub(r"proxy_read_timeout \d+s;", "", site.read_text())
    made = directory / "hasty.conf"
    made.write_text(text.replace("    error_log ", "    proxy_read_timeout 50ms;\n    error_log ", 1))
    return made


@SITES
@ASKED
def test_no_log_keeps_a_query_whatever_fails_and_the_line_says_what_did(site: Path, path: str, tmp_path: Path) -> None:
    given = f"{path}?api_token={TOKEN}&name=Jane"
    with stand_in() as broker:
        broker.dies = True
        with served(site, (broker, broker), tmp_path) as client:
            assert client.post(given).status_code == 502, "it broke off"
            port = client.base_url.port or 0
            for line, status in (
                (f"POST {given}&{'x' * 70_000} HTTP/1.1", b"414"),
                (f"POST {given} HTTP/1.1\r\nX-Long: {'x' * 70_000}", b"431"),
                (f"POST {given} HTTP/1.1\r\nContent-Length: none", b"400"),
            ):
                with asking(port, f"{line}\r\nHost: keys\r\n\r\n") as connection:
                    assert connection.recv(12) == b"HTTP/1.1 " + status
            if not path.startswith("/proxy/"):
                assert client.post(given, content=bytes(2_000_000)).status_code == 413
            broker.hangs = True
            broker.called.clear()
            with asking(port, f"POST {given} HTTP/1.1\r\nHost: keys\r\nContent-Length: 0\r\n\r\n"):
                assert broker.called.wait(20), "the caller goes away while the call is at the broker"
        with served(hasty(site, tmp_path), (broker, broker), tmp_path) as client:
            assert client.post(given).status_code == 504
    with served(site, (Stand(free_port()), Stand(free_port())), tmp_path) as client:
        assert client.post(given).status_code == 502, "nobody there"
    log, errors = (tmp_path / "access.log").read_text(), (tmp_path / "nginx.log").read_text()
    assert [line for line in (log + errors).splitlines() if TOKEN in line or "Jane" in line] == []
    assert re.search(rf'"POST {path}" 499 .* broker=127.0.0.1:\d+ - 0', log), "the caller went away"
    assert re.search(rf'"POST {path}" 504 .* broker=127.0.0.1:\d+ 504 0', log), "it was reached, and gave no answer"
    assert re.search(rf'"POST {path}" 502 .* broker=127.0.0.1:\d+.* 502 -', log), "it wasn't even reached"


@contextmanager
def asking(port: int, head: str) -> Iterator[ssl.SSLSocket]:
    """A connection on which this was sent; nobody looks at the certificate."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with trusting.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        connection.sendall(head.encode())
        yield connection


@SITES
@pytest.mark.parametrize(
    "path",
    [
        *("bootstrap", "/bootstrap", "%62ootstrap", "../x/../v1/bootstrap", "bootstrap/", "bootstrap;x", "Bootstrap"),
        *("bootstrap?x=1", "bootstrap%00", "bootstrap%2f"),
    ],
)
def test_nobody_becomes_an_admin_from_outside(site: Path, path: str, tmp_path: Path) -> None:
    with stand_in() as one, stand_in() as two, served(site, (one, two), tmp_path) as client:
        answer = client.post(f"https://{client.base_url.netloc.decode()}/v1/{path}", json={"token": TOKEN})
    assert answer.status_code == (400 if "%00" in path else 403)
    assert answer.json()["code"] == ("bad_request" if "%00" in path else "closed_here")
    assert not one.asked + two.asked


@SITES
@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/healthz", "/readyz?need=database"])
def test_what_is_for_operators_is_not_on_the_public_site(site: Path, path: str, tmp_path: Path) -> None:
    with stand_in() as one, stand_in() as two, served(site, (one, two), tmp_path) as client:
        assert client.get(path).status_code == 404
    assert not one.asked + two.asked


@pytest.mark.parametrize(
    ("method", "path", "sent"), [("POST", "/v1/leases", 1), ("GET", "/proxy/a/b/c", 1), ("GET", "/v1/leases", 2)]
)
def test_what_may_have_been_carried_out_is_sent_once(method: str, path: str, sent: int, tmp_path: Path) -> None:
    with stand_in() as one, stand_in() as two:
        one.dies = two.dies = True
        with served(DEPLOY / "compose" / "nginx.conf", (one, two), tmp_path) as client:
            assert client.request(method, path).status_code == 502
        assert len(one.asked + two.asked) == sent


def test_what_reached_no_broker_goes_to_the_other_one(tmp_path: Path) -> None:
    with stand_in() as two, served(DEPLOY / "compose" / "nginx.conf", (Stand(free_port()), two), tmp_path) as client:
        assert [client.post("/v1/leases").status_code for _ in range(4)] == [200] * 4


SPEAKING = {
    "X-Accel-Redirect": "/v1/leases",
    "X-Accel-Expires": "3600",
    "X-Accel-Limit-Rate": "1",
    "X-Accel-Buffering": "yes",
    "X-Accel-Charset": "koi8-r",
    "X-Sendfile": "/etc/passwd",
    "X-LiteSpeed-Location": "/v1/leases",
    "X-Reproxy-URL": "http://10.0.0.1/",
    "X-Lighttpd-Send-File": "/etc/passwd",
    "X-Varnish": "1",
    "Surrogate-Control": "max-age=3600",
    "CDN-Cache-Control": "max-age=3600",
    "Cloudflare-CDN-Cache-Control": "max-age=3600",
    "Edge-Control": "max-age=3600",
    "Proxy-Authenticate": "Basic",
}


@SITES
@pytest.mark.parametrize("path", ["/proxy/acme/raptor-comply/x", "/v1/organizations"])
def test_headers_that_speak_to_servers_before_the_broker_are_not_obeyed_and_not_handed_on(
    site: Path, path: str, tmp_path: Path
) -> None:
    with stand_in() as one, stand_in() as two:
        one.headers = two.headers = {**SPEAKING, "ETag": "e", "Content-Type": "text/plain"}
        with served(site, (one, two), tmp_path) as client:
            got = client.get(path)
    assert [target for _, target, _ in one.asked + two.asked] == [path], "no internal redirect"
    assert got.text == "ok"
    assert got.headers["etag"] == "e"
    assert got.headers["content-type"] == "text/plain"
    assert not {name.lower() for name in SPEAKING} & set(got.headers)


def test_no_site_keeps_connections_for_as_long_as_the_broker_that_it_is_shipped_with() -> None:
    default = Settings.model_fields["http_idle_seconds"].default
    keeps = {}
    for site in sorted(DEPLOY.rglob("*.conf")):
        text = site.read_text()
        if "proxy_pass" not in text:
            continue
        pools = re.findall(r"^upstream \w+ \{(.*?)^\}", text, re.MULTILINE | re.DOTALL)
        stated = [int(seconds) for pool in pools for seconds in re.findall(r"\bkeepalive_timeout (\d+)s;", pool)]
        assert len(stated) == len(pools), "stated, as nginx's default may change"
        assert set(re.findall(r"proxy_pass (\S+);", text)) == {"http://keybroker"}, "no place by the way of a pool"
        assert text.count('proxy_set_header Connection "";') == text.count("proxy_pass "), "else none is kept"
        keeps[site.relative_to(DEPLOY).as_posix()] = max(stated)
    assert keeps == {"nginx.conf": 60, "compose/nginx.conf": 60}
    others = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix in {".yaml", ".service", ".sh", ""}]
    setting = re.compile(r"^[^#\n]*BROKER_HTTP_IDLE_SECONDS[=:\s\"']+([0-9.]+)", re.MULTILINE)
    set_elsewhere = [float(seconds) for path in others for seconds in setting.findall(path.read_text())]
    assert max(keeps.values()) < min([default, *set_elsewhere])
    advice = (DEPLOY / "kubernetes" / "keybroker.yaml").read_text()
    assert f"BROKER_HTTP_IDLE_SECONDS ({default:g})" in advice
