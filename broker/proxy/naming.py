"""The names of a query's parameters, as the record may hold them.  Pure.

Values stay out of it.  A name is a job's own text, so only plain names go to the core of an event.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from broker.base.parameters import read

_NAME = re.compile(r"[A-Za-z0-9_.\[\]$-]{1,32}")
_LONGEST = 32
_MOST = 32


class Names(NamedTuple):
    """``plain`` names for the core, and ``other`` ones for the personal part.

    A name that could be a key isn't among them.
    """

    plain: tuple[str, ...]
    other: str


def names(query: str, could_be_key: Callable[[str], bool]) -> Names:
    """The names in ``query``, each once.

    Raises:
        QueryRefused: they can't be told.
    """
    plain: list[str] = []
    other: list[str] = []
    for name in sorted({one.name for one in read(query) if one.name})[:_MOST]:
        if len(name) > _LONGEST:
            other.append("(long name)")
        elif could_be_key(name) or could_be_key(name.replace(" ", "+")):  # a + that wasn't encoded reads as a blank
            other.append("(like a key)")
        else:
            (plain if _NAME.fullmatch(name) else other).append(name)
    return Names(tuple(plain), ", ".join(dict.fromkeys(other)))
