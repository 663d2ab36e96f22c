"""The HTTP client for every service but Vault, and only to addresses that were checked.

It follows no redirects, and uses no environment proxies and no cookies.  A name is resolved once, its addresses are
checked, and the checked address is dialled.  So a second look-up can't change the answer.  The Host header and the TLS
name come from the same URL.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from broker.base.tracing import span
from broker.wire.client import ANSWER_BOUNDS, Answer, Exchange, NoAnswer, Unreadable
from broker.wire.dial import adopted
from broker.wire.framing import Bounds
from broker.wire.pool import Origin, Pool

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Never an upstream, although some Pythons' tables of special addresses don't say so: local NAT64 (RFC 8215),
# IPv4-compatible and site-local forms, documentation, SRv6 segments, and metadata services of clouds at addresses
# that look public (Azure 168.63.129.16, Oracle 192.0.0.192).
_NEVER: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b:1::/48",
        "::/96",
        "fec0::/10",
        "3fff::/20",
        "5f00::/16",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
    )
)
# A second address is tried beside the first after so long (RFC 8305).
_EYEBALLS_S: Final = 0.25
_URL: Final = re.compile("([a-z]+)://([^/?]*)(.*)", re.DOTALL)
_PORTS: Final = {"http": 80, "https": 443}
# Methods whose request has a length even if it has no body (RFC 9110 §8.6).
_HAS_BODY: Final = frozenset({"POST", "PUT", "PATCH"})

Resolve = Callable[[str, int], Awaitable[Sequence[AddrInfoType]]]


class Unreachable(Exception):
    """No answer came from the upstream: refused, timed out, or at a forbidden address."""


class ForbiddenAddress(Unreachable, OSError):
    """The host has no address that this broker may dial."""


def is_public(address: str) -> bool:
    """Whether this IP address is on the public internet.

    An IPv6 form of an IPv4 address is judged by what it wraps.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(ip in network for network in _NEVER):
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class Untrusted(Unreachable):
    """The host's certificate is not vouched for; the text says why, and nothing was sent."""


async def resolved(host: str, port: int) -> Sequence[AddrInfoType]:
    """Every address of ``host``, by the system."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def checked(resolve: Resolve, host: str, port: int) -> list[AddrInfoType]:
    """The public addresses of ``host``; raises ForbiddenAddress if it has none."""
    found = [info for info in await resolve(host, port) if is_public(str(info[4][0]))]
    if not found:
        raise ForbiddenAddress("the host has no public address")
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where requests of one base URL go: the connection, the Host field, and a prefix.

    The prefix stands before a target's path.
    """

    origin: Origin
    host: str
    prefix: str


class Asking:
    """One request on its way; its answer while the context is open."""

    __slots__ = ("_body", "_exchange", "_head", "_length", "_method", "_origin", "_pool")

    def __init__(
        self,
        pool: Pool,
        origin: Origin,
        method: str,
        head: bytes,
        body: AsyncIterator[bytes] | bytes | None,
        length: int | None,
    ) -> None:
        self._pool, self._origin = pool, origin
        self._method, self._head, self._body, self._length = method, head, body, length
        self._exchange: Exchange | None = None

    async def __aenter__(self) -> Answer:
        try:
            with span("upstream", outward=True) as waiting:
                self._exchange = exchange = await self._pool.take(self._origin)
                answer = await exchange.ask(self._method, self._head, self._body, self._length)
                if waiting is not None:
                    waiting.set_attribute("http.request.method", self._method)
                    waiting.set_attribute("http.response.status_code", answer.status)
            await answer.begin()
        except BaseException as error:
            self._end()
            if isinstance(error, NoAnswer):
                raise Unreachable(str(error)) from None
            raise
        return answer

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._exchange is not None:
            self._pool.give_back(self._origin, self._exchange)

    def given_up(self) -> Unreachable | Unreadable:
        """What to raise if the answer didn't come in time."""
        given_up = self._exchange.given_up("TimeoutError") if self._exchange else NoAnswer("TimeoutError")
        return Unreachable(str(given_up)) if isinstance(given_up, NoAnswer) else given_up


class Outbound:
    """Calls to upstreams.  ``private`` hosts (sandboxes) skip the address check.

    If there is an ``egress_proxy`` (the URL of an HTTP proxy), every other host is reached through it.  The proxy then
    resolves names, and has to refuse addresses inside.  Times are in seconds.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 5,
        total_timeout: float = 30,
        egress_proxy: str | None = None,
        bounds: Bounds = ANSWER_BOUNDS,
        resolve: Resolve = resolved,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._total_timeout = total_timeout
        self._proxy = urlsplit(egress_proxy) if egress_proxy else None
        self._bounds = bounds
        self._resolve = resolve
        self._tls = ssl.create_default_context()
        self._pool = Pool(self._dial)
        self._place = lru_cache(maxsize=1024)(self._placed)

    @asynccontextmanager
    async def call(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: AsyncIterator[bytes] | bytes | None = None,
        private: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Answer]:
        """One request, its answer streamed, all of it in a limited time.

        Arguments and errors are those of :meth:`unlimited`.
        """
        asking = self.unlimited(method, url, headers=headers, body=body, private=private, tls=tls)
        try:
            async with asyncio.timeout(self._total_timeout), asking as answer:
                yield answer
        except TimeoutError:
            raise asking.given_up() from None

    def unlimited(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: AsyncIterator[bytes] | bytes | None = None,
        private: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> Asking:
        """One request, its answer streamed; the caller limits the time itself.

        Args:
            method: the HTTP method.
            url: encoded already; it is sent byte for byte as given.
            headers: all that are sent beside ``Host`` and the framing; a Content-Length among them frames ``body``.
            body: what is sent.
            private: the provider file says that the host may have a private address.
            tls: what is trusted instead of the public authorities.

        Raises:
            Unreachable: no answer; the text names no header and no query.
            Untrusted: the same, because of the host's certificate.
            Unreadable: an answer that can't be read, or that broke off.
        """
        parts = _URL.fullmatch(url)
        if parts is None:
            raise ValueError("no absolute URL")
        scheme, authority, target = parts.groups()
        place = self._place(scheme, authority, private, tls)
        if not target.startswith("/"):
            target = "/" + target
        head, length = _head(method, place.prefix + target, place.host, headers, body)
        return Asking(self._pool, place.origin, method, head, body, length)

    async def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def _placed(self, scheme: str, authority: str, private: bool, tls: ssl.SSLContext | None) -> _Place:
        parts = urlsplit(f"{scheme}://{authority}")
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port or _PORTS[scheme]
        shown = f"[{host}]" if ":" in host else host
        named = shown if port == _PORTS[scheme] else f"{shown}:{port}"
        # No resolver is asked about an address literal behind an egress proxy.
        if not private and _is_literal(host) and not is_public(host):
            raise ForbiddenAddress("the host is an address that may not be dialled")
        origin = Origin(host, port, (tls or self._tls) if scheme == "https" else None, private)
        absolute = scheme == "http" and self._proxy is not None and not private
        return _Place(origin, named, f"http://{named}" if absolute else "")

    async def _dial(self, origin: Origin) -> Exchange:
        """A connection to the origin's checked address, or through the egress proxy."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                if self._proxy is not None and not origin.private:
                    return await self._through(self._proxy, origin)
                if origin.private:
                    addresses = await self._resolve(origin.host, origin.port)
                else:
                    addresses = await checked(self._resolve, origin.host, origin.port)
                return await self._connected(addresses, origin)
        except ForbiddenAddress:
            raise
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(_why(error)) from None
        except (OSError, TimeoutError, UnicodeError) as error:  # a name that can't be one
            raise Unreachable(type(error).__name__) from None

    async def _through(self, egress: SplitResult, origin: Origin) -> Exchange:
        """A connection through the egress proxy.

        For TLS it is a tunnel (RFC 9110 §9.3.6), else it leads to the proxy itself.
        """
        host, port = egress.hostname or "", egress.port or _PORTS[egress.scheme]
        tls = self._tls if egress.scheme == "https" else None
        proxy = await self._connected(await self._resolve(host, port), Origin(host, port, tls, private=True))
        if origin.tls is None:
            return proxy
        name = f"[{origin.host}]" if ":" in origin.host else origin.host
        asked = f"{name}:{origin.port}"
        try:
            answer = await proxy.ask(
                "CONNECT", f"CONNECT {asked} HTTP/1.1\r\nHost: {asked}\r\n\r\n".encode(), None, None
            )
            if not 200 <= answer.status < 300:
                raise Unreachable(f"the egress proxy answered {answer.status}")
            return await proxy.secured(origin.tls, origin.host)
        except (NoAnswer, Unreadable):
            raise Unreachable("the egress proxy opened no tunnel") from None
        finally:
            if not proxy.handed_over:
                proxy.close()

    async def _connected(self, addresses: Sequence[AddrInfoType], origin: Origin) -> Exchange:
        loop = asyncio.get_running_loop()
        sock = await start_connection(addresses, happy_eyeballs_delay=_EYEBALLS_S, loop=loop)
        exchange = await adopted(sock, self._bounds)
        return exchange if origin.tls is None else await exchange.secured(origin.tls, origin.host)


def _head(
    method: str, target: str, host: str, headers: Sequence[tuple[str, str]], body: AsyncIterator[bytes] | bytes | None
) -> tuple[bytes, int | None]:
    """A request's head, and the length that it declares of a streamed body."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *[f"{name}: {value}" for name, value in headers]]
    length: int | None = None
    if body is None or isinstance(body, bytes):
        if body or method in _HAS_BODY:
            lines.append(f"Content-Length: {len(body or b'')}")
    else:
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), None)
        if length is None:
            lines.append("Transfer-Encoding: chunked")
    head = "\r\n".join([*lines, "", ""]).encode()
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        raise ValueError("a line break or NUL within a request's head")
    return head, length


def _why(error: Exception) -> str:
    """What OpenSSL says of a certificate, such as "self-signed certificate"."""
    return str(getattr(error, "verify_message", "")).rstrip(".") or "the certificate can't be verified"


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
