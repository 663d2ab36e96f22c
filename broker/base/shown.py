"""Text from outside, free of what readers don't see and of what steers a display.  Pure.

That is: control characters (C0, DEL, C1: terminals obey them), format characters (bidirectional overrides, zero width,
tags), line and paragraph separators, private use, halves of surrogate pairs, and letters that show nothing.  Variation
selectors stay: names and emoji are written with them, and they change no neighbour.
"""

from __future__ import annotations

import unicodedata

INSTEAD = "\ufffd"
_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
# By category these are letters and marks, and yet nobody sees them (Default_Ignorable_Code_Point, UAX #44).
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")


def is_shown(text: str) -> bool:
    """Whether a reader sees all of ``text``.

    And whether nothing in it steers a terminal or the direction of writing.
    """
    if text.isprintable():  # most are, and it takes no time
        return text.isascii() or _FILLERS.isdisjoint(text)
    return not any(map(_hides, text))


def shown(text: str) -> str:
    """``text`` with U+FFFD for each character that :func:`is_shown` minds."""
    return text if is_shown(text) else "".join(INSTEAD if _hides(character) else character for character in text)


def _hides(character: str) -> bool:
    return character in _FILLERS or unicodedata.category(character) in _HIDDEN
