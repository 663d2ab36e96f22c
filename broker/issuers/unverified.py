"""Tokens that nobody has verified yet: the one bounded look at what they say.

Whoever reads a token before its signature was checked does it here, and gives nothing else to a parser.  What passes is
short, shallow, and of texts that every database takes.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.formats import base64url
from broker.issuers import strict_json

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


class NotAToken(ValueError):
    """Not a compact JWS of two small JSON objects (RFC 7515 §3.1, RFC 7519 §7.2)."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How much a token may be.

    That is its characters, the bytes of JSON of each part, and how deep that is nested.
    """

    length: int
    part: int
    depth: int


# A header with a certificate fits, and so do a job's claims.
OWN: Final = Measure(10_240, 4_096, 8)
# Others' tokens list the groups of a person, or nest what they say of a program.
OTHERS: Final = Measure(16_384, 12_288, 32)


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says of itself.  Anybody may have written it."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def peek(token: str, most: Measure = OWN) -> Unverified:
    """What ``token`` says.  Anybody may have written it.

    Raises:
        NotAToken: too long, not ASCII, not of that form, nested deeply, with doubled members, with numbers beyond
            measure, or with texts that not every database takes (NUL, lone surrogates).
    """
    found = _COMPACT.fullmatch(token) if len(token) <= most.length else None
    if found is None:
        raise NotAToken
    return Unverified(_object(found[1], most), _object(found[2], most))


def _object(part: str, most: Measure) -> dict[str, Any]:
    try:
        data = base64url.decode(part)
        if len(data) > most.part:
            raise NotAToken
        return strict_json.read(data, most.depth)
    except ValueError:
        raise NotAToken from None
