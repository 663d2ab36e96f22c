"""What was typed in error is not written out again.

It may be a secret, and terminals and logs of jobs are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from typer._click.exceptions import UsageError

UNSAID = "(not shown)"
_SHORT = 20
_OPTION = re.compile(r"--?[a-z][a-z-]*")
_TOKEN = re.compile(r"kb[oaldes]_[A-Za-z0-9_-]{8}")
_ID = re.compile(r"[a-z]{3}_[0-9a-f]{32}")
# No key is shorter, and most words are left out by it.
_PERHAPS_A_KEY = re.compile(r"[A-Za-z0-9_-]{16}")
_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EXTRA = "Got unexpected extra argument"
_FROM_STANDARD_INPUT = re.compile(r"\b(?:key add|login|webhook add|operator bootstrap)$")


def holds_a_secret(words: Sequence[str]) -> bool:
    """Whether a word has a token of ours in it, or a key as bundled provider files know it."""
    perhaps = [word for word in words if _PERHAPS_A_KEY.search(_ID.sub("", word)) and not _OPTION.fullmatch(word)]
    if not perhaps:
        return False
    masked = _masking()
    return any(_TOKEN.search(word) or masked(word) != word for word in perhaps)


@cache
def _masking() -> Callable[[str], str]:
    from broker.leaks.patterns import declared  # noqa: PLC0415 - it takes a while, and is seldom needed
    from broker.providers.recognition import masking  # noqa: PLC0415 - likewise

    return masking(one.pattern for one in declared())


def unsaid(word: str) -> str:
    """The word as it may be repeated: not at all if it is long, as every secret is."""
    return UNSAID if len(word) > _SHORT or _TOKEN.search(word) else word


@contextmanager
def discreetly(words: Sequence[str]) -> Iterator[None]:
    """Take what people typed, ``words``, out of the texts of usage errors."""
    try:
        yield
    except UsageError as error:
        error.message = _without(error.message, words)
        if error.message.startswith(_EXTRA):
            path = error.ctx.command_path if error.ctx else ""
            error.message = f"{_EXTRA}s; they are not repeated here, as one may be a secret." + (
                " A secret is taken from standard input only." if _FROM_STANDARD_INPUT.search(path) else ""
            )
        raise


def _without(message: str, words: Sequence[str]) -> str:
    pieces = {piece for word in words for piece in (word, *word.split("=", 1)) if not _OPTION.fullmatch(piece)}
    for piece in sorted(pieces, key=len, reverse=True):
        if unsaid(piece) != piece:
            for form in (piece, repr(piece)[1:-1], ascii(piece)[1:-1], _STEERS.sub(_as_hex, piece)):
                message = message.replace(form, UNSAID)
    return message


def _as_hex(found: re.Match[str]) -> str:
    """A control character as the texts of errors have it."""
    return f"\\x{ord(found[0]):02x}"
