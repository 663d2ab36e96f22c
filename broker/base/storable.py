"""What may become part of a row or an event, on every database.

It is checked when it enters, and before it is written.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.base.errors import Invalid
from broker.base.shown import is_shown

_INTEGERS = 2**63  # BIGINT


class Unstorable(Invalid):
    """A value that can't be kept as it is; nothing was written."""

    def __init__(self) -> None:
        super().__init__(
            "A text holds NUL, another character that isn't shown, or half a character; or a number is beyond 64 bits. "
            "Leave it out."
        )


def check(values: Iterable[object]) -> None:
    """Check every text and number of ``values``; others (bytes, None) can always be kept.

    Raises:
        Unstorable: a text doesn't encode, holds NUL or what isn't shown; a number is beyond BIGINT.
    """
    for value in values:
        if isinstance(value, str):
            if not (value.isascii() and value.isprintable()) and not is_shown(value):  # most are ids
                raise Unstorable
        elif isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS:
            raise Unstorable
