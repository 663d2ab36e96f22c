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
from yarl import URL

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


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
    """Calls to upstreams.  ``private`` hosts (sandboxes) use their own connections and skip the address check."""

    def __init__(self, *, connect_timeout: float = 5, total_timeout: float = 30, connections: int = 256) -> None:
        self._timeout = aiohttp.ClientTimeout(total=total_timeout, connect=connect_timeout)
        self._connections = connections
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def _session(self, *, private: bool) -> aiohttp.ClientSession:
        if private not in self._sessions:
            connector = aiohttp.TCPConnector(
                limit=self._connections, resolver=None if private else CheckedResolver(), happy_eyeballs_delay=0.25
            )
            self._sessions[private] = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
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
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, its answer streamed; ``url`` is sent byte for byte as given.

        Raises:
            Unreachable: no answer; the text names no header and no query.
        """
        target = URL(url, encoded=True)
        # aiohttp asks no resolver about an address literal.
        if not private and target.host and _is_literal(target.host) and not is_public(target.host):
            raise ForbiddenAddress("the host is an address that may not be dialled")
        try:
            async with self._session(private=private).request(
                method, target, headers=CIMultiDict(headers), data=body, allow_redirects=False
            ) as response:
                yield response
        except ForbiddenAddress:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
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
