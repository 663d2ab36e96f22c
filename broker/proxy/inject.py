"""Strip first, inject last: what of a caller's request goes upstream, and the key into its one slot.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import parse_qsl, quote_plus, unquote, unquote_plus

from broker.base.errors import Invalid
from broker.providers.definition import Placement

# RFC 9110 §7.6.1, and what only this hop is meant to read.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = frozenset(
    {
        "authorization",
        "accept-encoding",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "via",
        "x-real-ip",
        "x-request-id",
        # Some frameworks take another method or path from these than the ones that were judged.
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    }
)
_NEVER_SENT = HOP_BY_HOP | _OURS
_CARRIED = re.compile(r"[^\r\n\0\ud800-\udfff]*")
_NAME_MAX = 40  # a key that somebody pasted after the "?" is longer
_OURS_BY_PREFIX = ("x-forwarded-", "x-broker-", "proxy-")

Headers = list[tuple[str, str]]


def alias(name: str) -> str:
    """Spellings that some servers treat as one: case, underscore for dash, percent-encoding."""
    return (unquote(name) if "%" in name else name).lower().replace("_", "-")


def tokens(connection: str) -> set[str]:
    """The headers that a ``Connection`` header names as being for this hop only (RFC 9110 §7.6.1)."""
    return {alias(token.strip()) for token in connection.split(",")}


def request_headers(
    caller: Iterable[tuple[str, str]], required: Collection[tuple[str, str]], slot: Placement
) -> Headers:
    """The headers to send: the caller's less hop-by-hop ones and ours, the provider's fixed ones, the key last.

    Raises:
        Invalid: a header value that HTTP can't carry.
    """
    fixed = {alias(name) for name, _ in (*required, *slot.headers)}
    kept = []
    named: set[str] = set()
    for name, value in caller:
        aliased = alias(name)
        if aliased == "connection":
            named |= tokens(value)
        elif aliased not in _NEVER_SENT and aliased not in fixed and not aliased.startswith(_OURS_BY_PREFIX):
            if not _CARRIED.fullmatch(value):
                raise Invalid("A header's value holds a line break, NUL, or bytes that are not UTF-8; leave them out.")
            kept.append((aliased, name, value))
    passed = [(name, value) for aliased, name, value in kept if aliased not in named]
    # An answer in an encoding that the broker can't read could carry the key past it.
    return [*passed, ("Accept-Encoding", "identity"), *required, *slot.headers]


def query(caller: str, slot: Placement) -> str:
    """The query to send: the caller's bytes less every spelling of the injected parameter, the key last."""
    if not slot.query:
        return caller
    injected = {name.lower() for name, _ in slot.query}
    pairs = [pair for pair in caller.split("&") if pair and _parameter(pair) not in injected]
    pairs += [f"{quote_plus(name)}={quote_plus(value)}" for name, value in slot.query]
    return "&".join(pairs)


def _parameter(pair: str) -> str:
    name = pair.partition("=")[0]
    while (decoded := unquote_plus(name)) != name:
        name = decoded
    return name.partition("[")[0].strip().lower()


def query_names(raw: str) -> tuple[str, ...]:
    """The parameter names of a query, for the record: values stay out of it, and so does what is no likely name."""
    if not raw:
        return ()
    return tuple(
        sorted(
            {
                name if len(name) <= _NAME_MAX else "(long name)"
                for name, _ in parse_qsl(raw, keep_blank_values=True, max_num_fields=None)
            }
        )
    )[:32]
