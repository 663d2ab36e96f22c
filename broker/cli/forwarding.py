"""A loopback forwarder for a command that can't prove the key that its lease is bound to.

The command sends its calls here, with the lease's token where it would put the key.  Each goes on to the broker with a
proof of its own.  The key stays in this process.  Other users of the machine reach the port as well, so a request
without just that token goes nowhere.
"""

from __future__ import annotations

import base64
import hmac
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import httpx2

from broker.base.hops import HOP_BY_HOP
from broker.client import connecting
from broker.client.errors import CallFailed
from broker.formats import dpop

if TYPE_CHECKING:
    from broker.client.upstream import Upstream

# Read whole, so that it can be sent once more if the broker asks for another nonce.
_SMALL: Final = 65_536
_CHUNK: Final = 65_536
_IDLE_S: Final = 300
# How long an answer may take is for the broker to say.
_TIMEOUTS: Final = {"connect": 10.0, "pool": 10.0, "read": None, "write": None}
# The forwarder writes Host and the framing itself.
_HOP: Final = HOP_BY_HOP | {"content-length", "expect", "host"}
_REFERENCES: Final = frozenset({"azure-asyncoperation", "content-location", "link", "location", "operation-location"})


@contextmanager
def forwarding(upstream: Upstream, proxy: str | None) -> Iterator[str]:
    """The address of this machine that stands for the upstream's while the context is open.

    Args:
        upstream: whose lease is bound to this process's key.
        proxy: the HTTP proxy that leads to the broker, if there is one.
    """
    with connecting.transport(proxy) as sends:
        server = _Server(upstream, sends)
        thread = threading.Thread(target=server.serve_forever, name="forwarder", daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            server.server_close()


def unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which no HTTP proxy comes before this machine's own address."""
    excepted = {name: environment.get(name, "") for name in ("NO_PROXY", "no_proxy")}
    return {**environment, **{name: f"{value},127.0.0.1".lstrip(",") for name, value in excepted.items()}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a call that still streams ends with the process

    def __init__(self, upstream: Upstream, sends: httpx2.BaseTransport) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.sends = sends
        self.base = httpx2.URL(upstream.url)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.origin}{self.base.raw_path.decode('ascii')}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the command is told by its connection, and standard error is the command's."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of the command."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_S
    server: _Server
    _begun = False

    def _forward(self) -> None:
        self._begun = False  # a connection has many calls
        try:
            if not self._has_the_token():
                self._refuse(401, "This address is for the command that was started with its token.")
            elif not self._is_below():
                self._refuse(404, f"The upstream is below {self.server.url}.")
            elif self._is_ambiguous():
                self._refuse(400, "The request's length can be read in two ways.")
            else:
                self._send_on()
        except CallFailed as over:
            self._refuse(401, str(over))
        except httpx2.HTTPError:
            self.close_connection = True
            if not self._begun:
                self._refuse(502, "The broker can't be reached.")

    # The library's names.
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward  # noqa: N815 - see above

    def _has_the_token(self) -> bool:
        """Whether a header holds the lease's token, as a client of the upstream sends a key."""
        token = self.server.upstream.token.encode()
        found = [hmac.compare_digest(one.encode(), token) for value in self.headers.values() for one in _said(value)]
        return any(found)

    def _is_below(self) -> bool:
        prefix = self.server.base.raw_path.decode("ascii")
        return self.path.startswith(prefix) and self.path[len(prefix) :][:1] in {"", "/", "?"}

    def _is_ambiguous(self) -> bool:
        lengths, codings = self.headers.get_all("Content-Length", []), self.headers.get_all("Transfer-Encoding", [])
        if len(lengths) + len(codings) > 1 or any(not one.isdecimal() for one in lengths):
            return True
        return any(one.strip().lower() != "chunked" for one in codings)

    def _send_on(self) -> None:
        body = self._body()
        response = self._answered(body)
        if response.headers.get("x-broker-problem") == dpop.NONCE_NEEDED and isinstance(body, bytes):
            response.close()
            response = self._answered(body)
        try:
            self._hand_over(response)
        finally:
            response.close()
        if not isinstance(body, bytes):
            for _ in body:  # the broker may have refused it half way; the rest isn't the next call
                pass

    def _answered(self, body: bytes | Iterator[bytes]) -> httpx2.Response:
        upstream, sends = self.server.upstream, self.server.sends
        url = self.server.base.copy_with(raw_path=self.path.encode("latin-1"))
        named = {name.strip().lower() for name in self.headers.get("Connection", "").split(",")}
        headers = [
            (name, value)
            for name, value in self.headers.items()
            if name.lower() not in _HOP | named | {dpop.HEADER.lower()}
        ]
        if (length := self.headers.get("Content-Length")) is not None:
            headers.append(("Content-Length", length))
        proof = upstream.headers(self.command, str(url))[dpop.HEADER]
        headers.append((dpop.HEADER, proof))
        request = httpx2.Request(self.command, url, headers=headers, content=body, extensions={"timeout": _TIMEOUTS})
        response = sends.handle_request(request)
        upstream.note(response.headers)
        return response

    def _body(self) -> bytes | Iterator[bytes]:
        length = self.headers.get("Content-Length")
        if length is not None and int(length) <= _SMALL:
            return self.rfile.read(int(length))
        if length is None and "Transfer-Encoding" not in self.headers:
            return b""
        parts = self._chunks() if length is None else self._parts(int(length))
        return iter(lambda: next(parts, b""), b"")  # a generator would be over once it isn't sent any more

    def _parts(self, left: int) -> Iterator[bytes]:
        while left:
            part = self.rfile.read1(min(left, _CHUNK))
            if not part:
                raise ConnectionResetError
            left -= len(part)
            yield part

    def _chunks(self) -> Iterator[bytes]:
        """A body in chunks (RFC 9112 §7.1)."""
        while size := int(self.rfile.readline(1_024).partition(b";")[0].strip(), 16):
            yield from self._parts(size)
            self.rfile.readline(8)
        while self.rfile.readline(8_192).strip():
            pass

    def _hand_over(self, response: httpx2.Response) -> None:
        """The answer as it comes; what leads to the broker's address leads to this one."""
        self._begun = True
        self.send_response_only(response.status_code, response.reason_phrase)
        for name, value in response.headers.multi_items():
            if name.lower() in _HOP or name.lower() == dpop.NONCE_HEADER.lower():
                continue
            there, here = self.server.upstream.url, self.server.url
            self.send_header(name, value.replace(there, here) if name.lower() in _REFERENCES else value)
        length = response.headers.get("content-length")
        without = self.command == "HEAD" or response.status_code in {204, 304}
        if length is not None:
            self.send_header("Content-Length", length)
        elif not without:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if without:
            return
        for part in response.iter_raw():
            self.wfile.write(part if length is not None else b"%x\r\n%b\r\n" % (len(part), part))
        if length is None:
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, text: str) -> None:
        self.close_connection = True
        body = f"broker exec: {text}\n".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_what: Any) -> None:
        """Write no log: standard error is the command's."""


def _said(value: str) -> Iterator[str]:
    """The texts in a header's value that may be the token.

    These are all of it, what follows a scheme, and the parts of Basic.
    """
    yield value
    scheme, _, rest = value.partition(" ")
    yield rest.strip()
    if scheme.lower() == "basic":
        try:
            yield from base64.b64decode(rest.strip()).decode().split(":")
        except ValueError:
            return
