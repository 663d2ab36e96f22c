"""An upstream as a job's HTTP client sees it: its address at the broker and what opens it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import unquote

import httpx2

from broker.client import connecting, reasons, transport
from broker.client.errors import outside
from broker.client.forks import PerProcess
from broker.client.renewal import RenewingLease
from broker.client.transport import AsyncUpstreamTransport, Readdressing, UpstreamTransport
from broker.formats import dpop


class _Headers(Protocol):
    def __setitem__(self, name: str, value: str, /) -> None: ...


class _Request(Protocol):
    """A request of requests, httpx, httpx2 or aiohttp: what these have in common."""

    @property
    def method(self) -> object: ...

    @property
    def url(self) -> object: ...

    @property
    def headers(self) -> _Headers: ...


_RequestT = TypeVar("_RequestT", bound=_Request)
_ResponseT = TypeVar("_ResponseT", bound=reasons.Reasoned)


class Upstream(httpx2.Auth):
    """One organization's upstream through the broker, under a lease that renews itself.

    ``auth=`` of requests, httpx and httpx2 takes an instance.  :meth:`aiohttp` and :meth:`transport` are for clients
    that take something else.  Many threads may share an instance.  Reading the token never waits for the network.
    Making and closing an instance does, so async code does that in a thread (``async with`` closes it in one).

    A child of ``fork()`` may use its parent's instance.  Its first use takes a lease of its own and waits for that, and
    closing it closes only the child's own.  Make HTTP clients after the fork: their connections don't survive one.

    What a client's ``raise_for_status()`` says of the broker's own refusals has their code in it, and their text where
    the client is requests or httpx2.
    """

    def __init__(self, lease: RenewingLease, *, proxy: str | None = None) -> None:
        self._lease = lease
        self._proxy = proxy
        # HTTP clients give a URL one spelling. This one has it too, so that theirs begin with it.
        self._base = httpx2.URL(lease.url)
        self.url = str(self._base)

    def __repr__(self) -> str:
        return f"<Upstream {self.url}>"

    @property
    def token(self) -> str:
        """The present lease's token; take it again for each call.

        Raises:
            AccessEnded, AccessDenied: access was cut off or refused; that is for good.
            CallFailed: the broker has been away for longer than the lease lasted.
        """
        return self._lease.token

    @property
    def final_seconds(self) -> float | None:
        """Seconds until the end if nothing can put it off; None if the lease goes on by itself."""
        return self._lease.final_seconds

    @property
    def bound(self) -> bool:
        """Whether the lease is bound to a key of this process, so that each call needs a proof."""
        return self._lease.bound

    def headers(self, method: str = "", url: str = "") -> dict[str, str]:
        """The headers that open the upstream, for this one call; raises as :attr:`token`.

        Args:
            method: the call's; needed if the lease is bound.
            url: the call's, below :attr:`url`; likewise.

        Raises:
            ValueError: it is bound, and they are left out.
        """
        token = self.token
        opened = {"Authorization": f"Bearer {token}"}
        if not self.bound:
            return opened
        if not method or not url:
            raise ValueError("The lease is bound to a key, so each call is proved: say its method and URL.")
        return {**opened, dpop.HEADER: self._lease.proof(method, url, token)}

    def note(self, headers: Mapping[str, str]) -> None:
        """Read an answer's headers: the next proof holds the nonce that came with them."""
        self._lease.note(headers)

    def __call__(self, request: _RequestT) -> _RequestT:
        """Put the token on ``request``, for ``auth=`` of requests, httpx and httpx2.

        Raises:
            OutsideUpstream: the request is for another place. Others as :attr:`token`.
        """
        self._check(str(request.url))
        for name, value in self.headers(str(request.method), str(request.url)).items():
            request.headers[name] = value
        if hooked := getattr(request, "register_hook", None):  # requests has them, httpx doesn't
            hooked("response", reasons.tell_requests)
            hooked("response", self._note_requests)
        return request

    def _note_requests(self, response: Any, **_options: object) -> None:  # noqa: ANN401 - of a library that may not be here
        self.note(response.headers)

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """What httpx2's Client calls, with what ``auth=`` is given; raises as calling this does."""
        response = yield self(request)
        self.note(response.headers)
        if transport.asks_again(request, response):
            response = yield self(request)
        content = response.read() if reasons.has_text(response.headers) else b""
        response.extensions = reasons.extensions(response, content)

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """What its AsyncClient calls; raises as calling this does."""
        response = yield self(request)
        self.note(response.headers)
        if transport.asks_again(request, response):
            response = yield self(request)
        content = await response.aread() if reasons.has_text(response.headers) else b""
        response.extensions = reasons.extensions(response, content)

    async def aiohttp(self, request: _RequestT, handler: Callable[[_RequestT], Awaitable[_ResponseT]]) -> _ResponseT:
        """A client middleware of aiohttp: ``ClientSession(middlewares=(upstream.aiohttp,))``.

        aiohttp sends redirects through it as well, so a redirect to another place raises OutsideUpstream.
        """
        response = await handler(self(request))
        self.note(response.headers)
        reasons.tell(response)  # the body stays unread: aiohttp hands it out once
        return response

    def transport(self, base_url: str, wrapped: httpx2.BaseTransport | None = None) -> httpx2.BaseTransport:
        """A transport for an httpx2 Client whose code keeps the upstream's own URLs.

        Args:
            base_url: the upstream's, as its provider file has it.
            wrapped: the transport that sends, also in a child of ``fork()``.  Left out, each process has an
                HTTPTransport of its own, which goes by the Client's proxy.
        """
        sends = PerProcess[httpx2.BaseTransport](lambda: wrapped or connecting.transport(self._proxy))
        return UpstreamTransport(self._readdressing(base_url), sends)

    def async_transport(
        self, base_url: str, wrapped: httpx2.AsyncBaseTransport | None = None
    ) -> httpx2.AsyncBaseTransport:
        """The same as :meth:`transport`, for an AsyncClient."""
        sends = PerProcess[httpx2.AsyncBaseTransport](lambda: wrapped or connecting.async_transport(self._proxy))
        return AsyncUpstreamTransport(self._readdressing(base_url), sends)

    def close(self) -> None:
        """Give the lease back; its token stops working."""
        self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await asyncio.to_thread(self.close)

    def _readdressing(self, base_url: str) -> Readdressing:
        return Readdressing(httpx2.URL(base_url), self._base, self.headers, self.note)

    def _check(self, url: str) -> None:
        rest = url.removeprefix(self.url)
        path = re.split("[?#]", rest, maxsplit=1)[0]
        # The comparison covers the whole authority, so no reading of the URL leads to another host.
        below = url.startswith(self.url) and path[:1] in {"", "/"}
        if not below or any(unquote(segment) in {".", ".."} for segment in path.split("/")):
            raise outside(url, self.url)
