"""How the job's side reaches the broker: its proxy, its trust and its connections.

``http_proxy``, ``https_proxy`` and ``all_proxy`` are not read.  Assertions, tokens and revealed keys pass through here,
and somebody who sets a variable for something else must not get them.  The caller names a proxy, or there is none.
``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` count, as in every program.  Nothing is sent beyond this machine without TLS.
"""

from __future__ import annotations

import ipaddress
from importlib import metadata

import httpx2

from broker.base import variables
from broker.client.errors import CallFailed

# The variable that names the HTTP proxy to the broker, where somebody asks for the environment's word.
PROXY = variables.CLIENT_PROXY
# A server may close an idle connection at the moment when a call goes out over it. Nothing tells if the call was
# received. So an idle connection is used again only for less time than servers and proxies keep it (the shortest
# default known is gunicorn's, 2 s; Apache's is 5 s, nginx's and the broker's 75 s).
_KEPT_S = 1.0
_KEPT = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=_KEPT_S)
# A job calls the broker itself every few minutes, so each such call has its own connection (RFC 9112 §9.6).
_CLOSED = {"Connection": "close"}


class ProxyUnusable(ValueError):
    """The given proxy isn't the address of one."""


def refuse_in_clear(url: str) -> None:
    """Refuse an address without TLS, unless it is of this machine.

    Raises:
        CallFailed: ``insecure_address``.
    """
    if is_in_clear(url):
        raise CallFailed(
            "This address begins with http://, so what is sent there could be read and changed on the way. Nothing was "
            "sent: use the broker's https:// address.",
            code="insecure_address",
        )


def is_in_clear(url: str) -> bool:
    """Whether what is sent there leaves this machine without TLS."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False  # nobody can call it
    return parsed.scheme == "http" and not _is_loopback(parsed.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def caller(base_url: str = "", *, timeout: float, proxy: str | None = None) -> httpx2.Client:
    """An HTTP client for calls of the broker itself.

    It keeps no idle connection, so none can make a call fail.

    Args:
        base_url: what paths are relative to.
        timeout: seconds that a call may wait for the broker.
        proxy: URL of the HTTP proxy to go by; left out, there is none, whatever the environment says.

    Raises:
        ProxyUnusable: ``proxy`` is no such URL.
        CallFailed: ``base_url`` has no TLS and isn't of this machine.
    """
    refuse_in_clear(base_url)
    # A client with a transport of its own doesn't take a proxy from the environment.
    sends = httpx2.HTTPTransport(proxy=_proxy(proxy))
    headers = {**_CLOSED, "User-Agent": _agent()}
    return httpx2.Client(base_url=base_url, timeout=timeout, headers=headers, transport=sends)


def _agent() -> str:
    """How this program names itself on the broker's record."""
    try:
        return f"keybroker/{metadata.version('keybroker')}"
    except metadata.PackageNotFoundError:  # it runs from files that nobody installed
        return "keybroker"


def transport(proxy: str | None) -> httpx2.HTTPTransport:
    """The transport of proxied calls; it uses connections again while that is safe.

    Raises:
        ProxyUnusable: ``proxy`` isn't the URL of one.
    """
    return httpx2.HTTPTransport(limits=_KEPT, proxy=_proxy(proxy))


def async_transport(proxy: str | None) -> httpx2.AsyncHTTPTransport:
    """The same as :func:`transport`, for an AsyncClient."""
    return httpx2.AsyncHTTPTransport(limits=_KEPT, proxy=_proxy(proxy))


def _proxy(url: str | None) -> httpx2.Proxy | None:
    if url is None:
        return None
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        # The text doesn't repeat the URL: there may be a password in it.
        raise ProxyUnusable("A proxy is given by its URL: http://HOST:PORT or https://HOST:PORT.")
    return httpx2.Proxy(parsed)
