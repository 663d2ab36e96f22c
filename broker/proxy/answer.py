"""What of an upstream's answer is handed back.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from broker.proxy.inject import HOP_BY_HOP, Headers, alias, tokens

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
        "x-content-type-options",
        "x-frame-options",
    }
)
_NEVER_RETURNED = HOP_BY_HOP | _STAY_BEHIND
_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")
_RENAMED = {"x-request-id": "X-Upstream-Request-Id"}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The upstream's base URL, the proxy's in its place, and the URL that was asked."""

    base: str
    proxy: str
    asked: str

    def through_proxy(self, reference: str) -> str:
        """A reference of the answer, absolute: below the proxy where it is below the base URL, else as it is."""
        target = urljoin(self.asked, reference)
        base, url = urlsplit(self.base), urlsplit(target)
        same_origin = (url.scheme, url.netloc.lower()) == (base.scheme, base.netloc.lower())
        rest = target.partition("://")[2][len(url.netloc) :]
        if not same_origin or not rest.startswith(base.path) or rest[len(base.path) :][:1] not in {"", "/", "?", "#"}:
            return target
        return self.proxy + rest[len(base.path) :]


def response_headers(upstream: Iterable[tuple[str, str]], addresses: Addresses) -> Headers:
    """The headers to hand back; references to the upstream (``Location``, ``Link``) lead through the proxy."""
    kept = []
    named: set[str] = set()
    for name, value in upstream:
        aliased = alias(name)
        if aliased == "connection":
            named |= tokens(value)
        if aliased in _NEVER_RETURNED or aliased.startswith("access-control-"):
            continue
        if aliased in {"location", "content-location"}:
            value = addresses.through_proxy(value)  # noqa: PLW2901 - the value, re-addressed
        elif aliased == "link":
            value = re.sub("<([^>]*)>", lambda link: f"<{addresses.through_proxy(link[1])}>", value)  # noqa: PLW2901
        kept.append((aliased, _RENAMED.get(aliased, name), value))
    return [(name, value) for aliased, name, value in kept if aliased not in named]


def request_id(upstream: Iterable[tuple[str, str]]) -> str:
    """The upstream's own id of the request, where it gives one."""
    given = {name.lower(): value for name, value in upstream}
    return next((given[name] for name in _REQUEST_IDS if name in given), "")
