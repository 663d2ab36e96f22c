"""JSON that comes from outside, read in one way only.  Pure.

It is shallow, has each name once, and texts and numbers that do no harm.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

# Short enough that arithmetic with it can't overflow, or grow.
_DIGITS_MAX = 18
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class NotPlain(ValueError):
    """Not JSON, or such that two readers could take it for two things, or too deep."""


def read(data: bytes, depth: int) -> dict[str, Any]:
    """The object that ``data`` is, nested no deeper than ``depth``.

    Raises:
        NotPlain: no JSON object, nested too deeply, with doubled members, with numbers beyond measure, or with texts
            that not every database takes (NUL, lone surrogates).
    """
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_members, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
    except (ValueError, RecursionError):
        raise NotPlain from None
    if not isinstance(value, dict) or not _is_plain(value, depth):
        raise NotPlain
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # one reader takes the first of two, another the last
        raise NotPlain
    return members


def _integer(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise NotPlain
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise NotPlain
    return number


def _is_plain(value: object, depth: int) -> bool:
    """Whether ``value`` is nested no deeper than allowed and all its texts can be stored.

    It looks level by level.
    """
    level = [value]
    for _ in range(depth):
        if any(isinstance(each, str) and _UNSTORABLE.search(each) for each in level):
            return False
        lists = [each for each in level if isinstance(each, list)]
        objects = [each for each in level if isinstance(each, dict)]
        level = [child for each in lists for child in each]
        level += [child for each in objects for pair in each.items() for child in pair]
    return not level
