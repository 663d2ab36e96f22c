"""A key amid other text: where one may begin, and such texts masked.

Pure, and without the server's parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from broker.providers.pattern import DISTINCTIVE, beginnings

MASK = "…"
# A beginning of so many characters is no end of another word by chance, as "sk-" is of "task-".
_UNMISTAKABLE = 5
_WORD = "[A-Za-z0-9_-]"
# What ends with a character of words and yet ends before the key: escapes, percent-encoding, a terminal's colour, an
# option written without a space (curl -uKEY), and Markdown's emphasis (_KEY_).
_GLUED = (
    r"\\[abfnrtv]",
    r"\\x[0-9A-Fa-f]{2}",
    r"\\u[0-9A-Fa-f]{4}",
    "%[0-9A-Fa-f]{2}",
    *(rf"\x1b\[[0-9;]{{{count}}}m" for count in range(21)),
    rf"(?<!{_WORD})-[A-Za-z]",
    *(rf"(?<!{_WORD})_{{{count}}}" for count in (1, 2, 3)),
)
# Where a key may begin that could as well be part of another word, and where one may end.
BEFORE = f"(?:(?<!{_WORD})|{'|'.join(f'(?<={glued})' for glued in _GLUED)})"
AFTER = "(?!_{0,3}[A-Za-z0-9-])"


def unmistakable(pattern: str) -> bool:
    """Whether the beginning of a key of this form alone tells it from other text.

    Whatever stands before it.
    """
    return min(map(len, beginnings(pattern))) >= _UNMISTAKABLE


def distinctive(pattern: str) -> str | None:
    """The form of a key inside other text, as a regular expression.

    None if nothing but its place tells it.
    """
    if min(map(len, beginnings(pattern))) < DISTINCTIVE:
        return None
    form = f"(?:{pattern[1:-1]})"
    # What is no key anyway is sooner seen by its form than by what stands before it.
    return form if unmistakable(pattern) else f"(?={form}){BEFORE}{form}"


def masking(patterns: Iterable[str]) -> Callable[[str], str]:
    """What puts a mask in the place of everything that has one of these forms.

    It does so wherever that ends.
    """
    forms = [form for form in map(distinctive, patterns) if form is not None]
    if not forms:
        return str
    every = re.compile("|".join(forms))

    def masked(text: str) -> str:
        # If one key stands right before another, the second is seen once the first is gone.
        while (shorter := every.sub(MASK, text)) != text:
            text = shorter
        return text

    return masked
