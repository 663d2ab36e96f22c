"""Strip first, inject last: which of a caller's headers go to the upstream.  Pure.

The key goes into its one placement.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from urllib.parse import quote_plus, unquote

from broker.base.errors import Invalid
from broker.base.hops import HOP_BY_HOP
from broker.base.parameters import folded, read
from broker.providers.definition import KeyPlacement

_OURS = frozenset(
    {
        "authorization",
        "accept-encoding",
        "content-length",
        "cookie",
        "dpop",
        "expect",
        "forwarded",
        "host",
        "via",
        "x-real-ip",
        # CGI hands it on as HTTP_PROXY, which HTTP clients obey (httpoxy, CVE-2016-5385).
        "proxy",
    }
)
_NEVER_SENT = HOP_BY_HOP | _OURS
# By far the most of what passes.
_USUAL = frozenset({"accept", "accept-language", "content-type", "user-agent"})
_CARRIED = re.compile(r"[^\r\n\0\ud800-\udfff]*")
_OURS_BY_PREFIX = ("x-forwarded-", "x-broker-", "proxy-")
# From these headers some frameworks and gateways take another method or address than the judged one.
_REWRITES = re.compile(
    "x-(?:http-)?(?:method|verb)(?:-override)?"
    "|(?:http-)?(?:method|verb)-override"
    "|x-http-(?:host|path|uri|url)-override"
    "|x-(?:envoy-original|original|override|replaced|request|rewrite)-(?:host|method|path|query|uri|url|verb)"
)
_NO_SEPARATOR = re.compile("[^a-z0-9-]")

_REMEMBERED_MAX = 64  # characters of a name; longer ones are rare, and could be many

Headers = list[tuple[str, str]]


def alias(name: str) -> str:
    """One name for all spellings that some servers treat as one (CGI, RFC 3875 §4.1.18).

    These differ in case, in percent-encoding, and in the sign that stands for a dash.
    """
    return _remembered(name) if len(name) <= _REMEMBERED_MAX else _alias(name)


def _alias(name: str) -> str:
    return _NO_SEPARATOR.sub("-", (unquote(name) if "%" in name else name).lower())


_remembered = lru_cache(maxsize=2_048)(_alias)


def tokens(connection: str) -> set[str]:
    """The headers that a ``Connection`` header says are for this hop only (RFC 9110 §7.6.1)."""
    return {alias(token.strip()) for token in connection.split(",")}


def request_headers(
    caller: Iterable[tuple[str, str]], required: Collection[tuple[str, str]], placement: KeyPlacement
) -> Headers:
    """The headers to send: the caller's, then the provider's fixed ones, the key last.

    Of the caller's, hop-by-hop ones and ours stay behind.

    Raises:
        Invalid: a header value that HTTP can't carry.
    """
    # call (11) strip first, inject last
    fixed = {alias(name) for name, _ in (*required, *placement.headers)}
    kept = []
    named: set[str] = set()
    for name, value in caller:
        aliased = alias(name)
        if aliased == "connection":
            named |= tokens(value)
        elif aliased not in fixed and not _stays_here(aliased):
            if not _CARRIED.fullmatch(value):
                raise Invalid("A header's value holds a line break, NUL, or bytes that are not UTF-8; leave them out.")
            kept.append((aliased, name, value))
    passed = [(name, value) for aliased, name, value in kept if aliased not in named]
    # An answer in an encoding that the broker can't read could carry the key past it.
    return [*passed, ("Accept-Encoding", "identity"), *required, *placement.headers]


def _stays_here(aliased: str) -> bool:
    if aliased in _USUAL:
        return False
    return aliased in _NEVER_SENT or aliased.startswith(_OURS_BY_PREFIX) or _REWRITES.fullmatch(aliased) is not None


def target(base: str, path: str, caller_query: str | None, placement: KeyPlacement) -> str:
    """The URL to call: ``path`` and the query of the call below ``base``.

    All but an injected key is sent byte for byte.  ``caller_query`` is None if the call has no ``?``.  An empty query
    keeps its ``?``: the two may differ (RFC 3986 §6.2.3).

    Raises:
        QueryRefused: the key goes into the query, and which parameter is its own can't be told.
    """
    sent = query(caller_query or "", placement)
    return f"{base}{path}?{sent}" if sent or caller_query is not None else f"{base}{path}"


def query(caller: str, placement: KeyPlacement) -> str:
    """The query to send: the caller's bytes, the key last.

    Every spelling of the injected parameter is taken out of the caller's bytes.

    Raises:
        QueryRefused: which parameter is the key's can't be told.
    """
    if not placement.query:
        return caller
    injected = {folded(name) for name, _ in placement.query}
    pairs = [one.separators + one.text for one in read(caller) if injected.isdisjoint(one.readings)]
    pairs += [f"&{quote_plus(name)}={quote_plus(value)}" for name, value in placement.query]
    return "".join(pairs)[1:]
