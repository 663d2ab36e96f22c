"""httpx2 transports that send an upstream's requests to the broker's proxy instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2

from broker.client import reasons
from broker.client.errors import outside
from broker.client.forks import PerProcess
from broker.formats import dpop


@dataclass(frozen=True, slots=True)
class Readdressing:
    """Turns the upstream's own URLs, below ``base``, into those below ``proxy``.

    ``headers`` gives the headers that open these, for one call: its method and URL.  ``note`` reads an answer's.
    """

    base: httpx2.URL
    proxy: httpx2.URL
    headers: Callable[[str, str], Mapping[str, str]]
    note: Callable[[Mapping[str, str]], None]

    def __call__(self, request: httpx2.Request) -> httpx2.Request:
        """``request`` as the proxy takes it; path and query stay as they are, byte for byte.

        Raises:
            OutsideUpstream: it is for another place.
            Whatever ``headers`` raises.
        """
        # httpx2 lets a caller write the target out beside the URL.
        target = request.extensions.get("target", request.url.raw_path)
        rest = _below(self.base, request.url, target)
        if rest is None:  # references in answers (Location, Link) are the proxy's URLs already
            rest = _below(self.proxy, request.url, target)
        if rest is None:
            raise outside(str(request.url), str(self.base))
        target = self.proxy.raw_path.rstrip(b"/") + rest
        extensions = dict(request.extensions)
        if "target" in extensions:
            extensions["target"] = target
        headers = request.headers.copy()
        url = self.proxy.copy_with(raw_path=target)
        headers.update({"Host": self.proxy.netloc.decode("ascii"), **self.headers(request.method, str(url))})
        return httpx2.Request(request.method, url, headers=headers, stream=request.stream, extensions=extensions)


def _below(base: httpx2.URL, url: httpx2.URL, target: bytes) -> bytes | None:
    """The part of ``target`` after the base URL's path; None if it isn't below that."""
    prefix = base.raw_path.rstrip(b"/")
    rest = target.removeprefix(prefix)
    same = url.origin == base.origin and target.startswith(prefix) and rest[:1] in {b"", b"/", b"?"}
    return rest if same else None


def asks_again(request: httpx2.Request, response: httpx2.Response) -> bool:
    """Whether the broker wants another nonce in the proof of a request that can be sent again."""
    challenged = response.headers.get("x-broker-problem") == dpop.NONCE_NEEDED
    return challenged and isinstance(request.stream, httpx2.ByteStream)


def _told(response: httpx2.Response, content: bytes) -> httpx2.Response:
    """The answer with the broker's reason.

    One that was read is made again, so that the client can read it and time that.
    """
    extensions = reasons.extensions(response, content)
    if not content:
        response.extensions = extensions
        return response
    stream = httpx2.ByteStream(content)
    return httpx2.Response(response.status_code, headers=response.headers, stream=stream, extensions=extensions)


class UpstreamTransport(httpx2.BaseTransport):
    """For ``httpx2.Client(transport=...)``."""

    def __init__(self, readdressing: Readdressing, wrapped: PerProcess[httpx2.BaseTransport]) -> None:
        self._readdressed = readdressing
        self._wrapped = wrapped
        wrapped()  # now, so that what can't be made is told to whoever makes this

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it by way of the proxy."""
        response = self._wrapped().handle_request(self._readdressed(request))
        self._readdressed.note(response.headers)
        if asks_again(request, response):
            response.close()
            response = self._wrapped().handle_request(self._readdressed(request))
        content = response.read() if reasons.has_text(response.headers) else b""
        return _told(response, content)

    def close(self) -> None:
        """Close this process's connections."""
        if wrapped := self._wrapped.made:
            wrapped.close()


class AsyncUpstreamTransport(httpx2.AsyncBaseTransport):
    """For ``httpx2.AsyncClient(transport=...)``."""

    def __init__(self, readdressing: Readdressing, wrapped: PerProcess[httpx2.AsyncBaseTransport]) -> None:
        self._readdressed = readdressing
        self._wrapped = wrapped
        wrapped()  # now, so that what can't be made is told to whoever makes this

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it by way of the proxy."""
        response = await self._wrapped().handle_async_request(self._readdressed(request))
        self._readdressed.note(response.headers)
        if asks_again(request, response):
            await response.aclose()
            response = await self._wrapped().handle_async_request(self._readdressed(request))
        content = await response.aread() if reasons.has_text(response.headers) else b""
        return _told(response, content)

    async def aclose(self) -> None:
        """Close this process's connections."""
        if wrapped := self._wrapped.made:
            await wrapped.aclose()
