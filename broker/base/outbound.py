"""The only HTTP client: no redirects, no environment proxies, no cookies, and only addresses that were checked.

A name is resolved once, its addresses are checked, and the checked address is dialled (so a second look-up can't
change the answer); the Host header and TLS name come from the same URL.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from multidict import CIMultiDict
from opentelemetry.trace import SpanKind
from yarl import URL

from broker.base.tracing import span

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Never an upstream, although not every Python's table of special addresses says so: local NAT64 (RFC 8215),
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
_READ_BYTES = 131_072


class Unreachable(Exception):
    """No answer came from upstream: refused, timed out, or an address that may not be dialled."""


class ForbiddenAddress(Unreachable, OSError):
    """The host has no address that this broker may dial."""


def is_public(address: str) -> bool:
    """Whether this IP address is on the public internet, also when wrapped in an IPv6 form of an IPv4 address."""
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


class CheckedResolver(AbstractResolver):
    """Resolves names to public addresses only."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses of ``host``; raises ForbiddenAddress where it has none."""
        found = [result for result in await self._inner.resolve(host, port, family) if is_public(result["host"])]
        if not found:
            raise ForbiddenAddress(f"{host} has no public address")
        return found

    async def close(self) -> None:
        """Free the resolver."""
        await self._inner.close()


class Outbound:
    """Calls to upstreams.  ``private`` hosts (sandboxes) use their own connections and skip the address check.

    With an ``egress_proxy`` (the URL of an HTTP proxy) every other host is reached through it, and it is the proxy
    that resolves names and has to refuse addresses inside.  Times are in seconds.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 5,
        total_timeout: float = 30,
        connections: int = 1024,
        egress_proxy: str | None = None,
    ) -> None:
        self._whole = aiohttp.ClientTimeout(total=total_timeout, connect=connect_timeout)
        self._streamed = aiohttp.ClientTimeout(total=None, connect=connect_timeout)
        self._connections = connections
        self._egress_proxy = egress_proxy
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def _session(self, *, private: bool) -> aiohttp.ClientSession:
        if private not in self._sessions:
            unchecked = private or self._egress_proxy is not None
            connector = aiohttp.TCPConnector(
                limit=self._connections, resolver=None if unchecked else CheckedResolver(), happy_eyeballs_delay=0.25
            )
            session = self._sessions[private] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=_READ_BYTES,
                proxy=None if private else self._egress_proxy,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
            # It would send an idempotent request twice where a kept connection broke: a use that nobody recorded.
            session._retry_connection = False  # noqa: SLF001 - aiohttp has no public setting; a test watches it
        return self._sessions[private]

    @asynccontextmanager
    async def call(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: AsyncIterator[bytes] | bytes | None = None,
        private: bool = False,
        streamed: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, its answer streamed; ``url`` is sent byte for byte as given.

        Args:
            method: the HTTP method.
            url: encoded already.
            headers: all that are sent beside ``Host`` and the framing; a Content-Length among them frames ``body``.
            body: what is sent.
            private: the provider file says that the host may have a private address.
            streamed: the caller limits the time itself, from the connection on.

        Raises:
            Unreachable: no answer; the text names no header and no query.
        """
        target = URL(url, encoded=True)
        # aiohttp asks no resolver about an address literal.
        if not private and target.host and _is_literal(target.host) and not is_public(target.host):
            raise ForbiddenAddress("the host is an address that may not be dialled")
        try:
            with span("upstream", SpanKind.CLIENT) as waiting:
                answering = await self._session(private=private).request(
                    method,
                    target,
                    headers=CIMultiDict(headers),
                    data=body,
                    allow_redirects=False,
                    timeout=self._streamed if streamed else self._whole,
                )
                waiting.set_attributes({"http.request.method": method, "http.response.status_code": answering.status})
            async with answering as response:
                yield response
        except ForbiddenAddress:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:  # a name that can't be one
            if isinstance(getattr(error, "os_error", None), ForbiddenAddress):  # aiohttp wraps what its resolver raised
                raise ForbiddenAddress("the host has no public address") from None
            raise Unreachable(type(error).__name__) from None

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
