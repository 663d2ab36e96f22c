"""Where a key may begin and end amid other text.  Pure.

``providers.recognition`` says the same by one regular expression.  This says it in steps: the character before a place
decides nearly every place, and no place takes long.
"""

from __future__ import annotations

import re

from broker.providers.recognition import AFTER

_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LETTER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_EMPHASIS = 3
# Escapes, percent-encoding and a terminal's colour. Each begins with a character of its own, so a search in as many
# bytes as the longest one has is short.
_ESCAPED = re.compile(
    rb"(?:\\[abfnrtv]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}|\x1b\[[0-9;]{0,20}m)\Z"
).search
_ESCAPED_LONGEST = 23


def may_begin(data: bytes, at: int) -> bool:
    """Whether a key may begin at ``at``: what begins there is no part of the word before it."""
    if at == 0 or (before := data[at - 1]) not in _WORD:
        return True
    if _ESCAPED(data, max(at - _ESCAPED_LONGEST, 0), at) is not None:
        return True
    if before in _LETTER:  # an option written without a space
        return at >= 2 and data[at - 2] == ord("-") and (at == 2 or data[at - 3] not in _WORD)
    if before != ord("_"):
        return False
    run = 1
    while run <= _EMPHASIS and run < at and data[at - 1 - run] == ord("_"):
        run += 1
    return run <= _EMPHASIS and (run == at or data[at - 1 - run] not in _WORD)


def ending(pattern: str) -> re.Pattern[bytes]:
    """The pattern, followed by what may come after a key."""
    return re.compile(f"(?:{pattern}){AFTER}".encode())
