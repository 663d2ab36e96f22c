"""How the job's side reaches the broker: by which proxy, trusting whom, keeping which connections.

``http_proxy``, ``https_proxy`` and ``all_proxy`` are not read: assertions, tokens and revealed keys pass through here,
and whoever sets a variable for something else must not get them.  A proxy is named by the caller, or there is none.
``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` count, as in every program.  Nothing is sent without TLS beyond this machine.
"""

from __future__ import annotations

import ipaddress

import httpx2

from broker.client.errors import CallFailed

# A server may close an idle connection at the moment a call goes out over it, and nothing tells whether it was
# received.  So an idle one is used again for so long only: servers and fronts keep them for longer (the shortest
# default known is gunicorn's, 2 s; Apache's is 5, nginx's and the broker's 75).
_KEPT_S = 1.0
_KEPT = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=_KEPT_S)
# A job's own calls of the broker are minutes apart, so each has a connection of its own (RFC 9112 §9.6).
_CLOSED = {"Connection": "close"}


class ProxyUnusable(ValueError):
    """What was given as a proxy isn't the address of one."""


def refuse_in_clear(url: str) -> None:
    """Refuse an address that would be called without TLS, unless it is of this machine.

    Raises:
        CallFailed: ``insecure_address``.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return  # nobody can call it
    if parsed.scheme == "http" and not _is_loopback(parsed.host):
        raise CallFailed(
            "This address begins with http://, so what is sent there could be read and changed on the way. Nothing was "
            "sent: use the broker's https:// address.",
            code="insecure_address",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def caller(base_url: str = "", *, timeout: float, proxy: str | None = None) -> httpx2.Client:
    """An HTTP client for calls of the broker itself; an idle connection never makes one fail, as none is kept.

    Args:
        base_url: what paths are relative to.
        timeout: seconds that a call may wait for the broker.
        proxy: URL of the HTTP proxy to go by; left out, there is none, whatever the environment says.

    Raises:
        ProxyUnusable: ``proxy`` is no such URL.
        CallFailed: ``base_url`` is without TLS and not of this machine.
    """
    refuse_in_clear(base_url)
    # With a transport of its own, the client asks the environment for no proxy.
    sends = httpx2.HTTPTransport(proxy=_proxy(proxy))
    return httpx2.Client(base_url=base_url, timeout=timeout, headers=_CLOSED, transport=sends)


def transport(proxy: str | None) -> httpx2.HTTPTransport:
    """What sends proxied calls; connections are used again while that is safe.  Raises ProxyUnusable."""
    return httpx2.HTTPTransport(limits=_KEPT, proxy=_proxy(proxy))


def async_transport(proxy: str | None) -> httpx2.AsyncHTTPTransport:
    """As :func:`transport`, for an AsyncClient."""
    return httpx2.AsyncHTTPTransport(limits=_KEPT, proxy=_proxy(proxy))


def _proxy(url: str | None) -> httpx2.Proxy | None:
    if url is None:
        return None
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        # The text doesn't repeat it: there may be a password in it.
        raise ProxyUnusable("A proxy is given by its URL: http://HOST:PORT or https://HOST:PORT.")
    return httpx2.Proxy(parsed)
