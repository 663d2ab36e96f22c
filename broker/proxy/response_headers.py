"""Which headers of an upstream's answer are handed back.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from broker.base.hops import HOP_BY_HOP
from broker.providers.answers import keepable
from broker.proxy.request_headers import Headers, alias, tokens

# Credentials of the upstream, and what would speak for the broker's own origin or to caches before it.
_STAY_BEHIND = frozenset(
    {
        "accept-ch",
        "age",
        "alt-svc",
        "authentication-info",
        "cache-control",
        "clear-site-data",
        "content-security-policy",
        "content-security-policy-report-only",
        "cross-origin-embedder-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "date",
        "dpop-nonce",
        "expires",
        "nel",
        "permissions-policy",
        "pragma",
        "public-key-pins",
        "referrer-policy",
        "refresh",
        "report-to",
        "reporting-endpoints",
        "server",
        "service-worker-allowed",
        "set-cookie",
        "set-cookie2",
        "strict-transport-security",
        "www-authenticate",
        "x-broker-tries",
        "x-content-type-options",
        "x-frame-options",
    }
)
_NEVER_RETURNED = HOP_BY_HOP | _STAY_BEHIND
# What speaks to a server, cache or CDN before the broker, by family (nginx, Apache, LiteSpeed, Perlbal, lighttpd,
# Varnish; Edge Architecture, RFC 9213), to the broker's own jobs, or to browsers.
_FAMILIES = (
    "access-control-",
    "edge-control",
    "proxy-",
    "surrogate-",
    "x-accel-",
    "x-broker-",
    "x-lighttpd-",
    "x-litespeed-",
    "x-reproxy-",
    "x-sendfile",
    "x-varnish",
)
_FAMILY_OF_CACHES = "cdn-cache-control"
_REFERENCES = frozenset({"azure-asyncoperation", "content-location", "location", "operation-location"})
_WITHOUT_CONTENT = frozenset({204, 304})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")
_RENAMED = {"x-request-id": "X-Upstream-Request-Id"}


class Addresses(NamedTuple):
    """The upstream's base URL, the proxy's in its place, and the URL that was asked."""

    base: str
    proxy: str
    asked: str

    def through_proxy(self, reference: str) -> str:
        """A reference of the answer, absolute.

        If it is below the base URL, it leads below the proxy instead.  A text that can't be read as a reference
        (RFC 3986) stays as it is.
        """
        try:
            target = urljoin(self.asked, reference)
            base, url = urlsplit(self.base), urlsplit(target)
            same_origin = _origin(url) == _origin(base)
        except ValueError:
            return reference
        rest = target.partition("://")[2][len(url.netloc) :]
        if not same_origin or not rest.startswith(base.path) or rest[len(base.path) :][:1] not in {"", "/", "?", "#"}:
            return target
        return self.proxy + rest[len(base.path) :]


def _origin(url: SplitResult) -> tuple[str, str, str | None, int | None]:
    """The origin, the same whether its port is spelled out or not (RFC 3986 §6.2.3).

    A user before the host makes it another origin.
    """
    port = _DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port
    return url.scheme, url.netloc.rpartition("@")[0], url.hostname, port


def response_headers(upstream: Iterable[tuple[str, str]], addresses: Addresses, status: int) -> Headers:
    """The headers to hand back.

    References to the upstream (``Location``, ``Link``) lead through the proxy.  If an answer with this ``status`` has
    no content, it says no length (RFC 9110 §8.6).
    """
    # call (14) what of the upstream's headers is the job's
    kept = []
    named: set[str] = set()
    for name, value in upstream:
        aliased = alias(name)
        if aliased == "connection":
            named |= tokens(value)
        if _stays_behind(aliased) or (aliased == "content-length" and status in _WITHOUT_CONTENT):
            continue
        if aliased in _REFERENCES:
            value = addresses.through_proxy(value)  # noqa: PLW2901 - the value, re-addressed
        elif aliased == "link":
            value = re.sub("<([^>]*)>", lambda link: f"<{addresses.through_proxy(link[1])}>", value)  # noqa: PLW2901 - as above
        kept.append((aliased, _RENAMED.get(aliased, name), value))
    return [(name, value) for aliased, name, value in kept if aliased not in named]


def request_id(masked: Iterable[tuple[str, str]]) -> str:
    """The upstream's own id of the request, from masked headers.

    It is empty if the upstream gives none that can be kept.
    """
    given = {lower: value for name, value in masked if (lower := name.lower()) in _REQUEST_IDS}
    return next((kept for name in _REQUEST_IDS if (kept := keepable(given.get(name, "")))), "") if given else ""


def _stays_behind(aliased: str) -> bool:
    return aliased in _NEVER_RETURNED or aliased.startswith(_FAMILIES) or aliased.endswith(_FAMILY_OF_CACHES)
