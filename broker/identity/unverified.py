"""Tokens that nobody has verified yet: the one bounded look at what they say.

Whoever reads a token before its signature was checked does it here, and gives nothing else to a parser.  What passes is
short, shallow, and of texts that every database takes.  Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.formats import base64url

_LENGTH_MAX = 10_240
_PART_MAX = 4_096  # bytes of JSON: a header with a certificate fits, and so do a platform's claims
_DEPTH_MAX = 8
# Short enough that arithmetic with it can't overflow, or grow.
_DIGITS_MAX = 18
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class NotAToken(ValueError):
    """Not a compact JWS of two small JSON objects (RFC 7515 §3.1, RFC 7519 §7.2)."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says of itself.  Anybody may have written it."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def peek(token: str) -> Unverified:
    """What ``token`` says.  Anybody may have written it.

    Raises:
        NotAToken: too long, not ASCII, not of that form, nested deeply, with doubled members, with numbers beyond
            measure, or with texts that not every database takes (NUL, lone surrogates).
    """
    found = _COMPACT.fullmatch(token) if len(token) <= _LENGTH_MAX else None
    if found is None:
        raise NotAToken
    return Unverified(_object(found[1]), _object(found[2]))


def _object(part: str) -> dict[str, Any]:
    try:
        data = base64url.decode(part)
        if len(data) > _PART_MAX:
            raise NotAToken
        value = json.loads(
            data.decode(), object_pairs_hook=_members, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
    except (ValueError, RecursionError):
        raise NotAToken from None
    if not isinstance(value, dict) or not _is_plain(value):
        raise NotAToken
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # one reader takes the first of two, another the last
        raise NotAToken
    return members


def _integer(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise NotAToken
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise NotAToken
    return number


def _is_plain(value: object) -> bool:
    """Whether ``value`` is nested no deeper than allowed and all its texts can be stored.

    It looks level by level.
    """
    level = [value]
    for _ in range(_DEPTH_MAX):
        if any(isinstance(each, str) and _UNSTORABLE.search(each) for each in level):
            return False
        lists = [each for each in level if isinstance(each, list)]
        objects = [each for each in level if isinstance(each, dict)]
        level = [child for each in lists for child in each]
        level += [child for each in objects for pair in each.items() for child in pair]
    return not level
