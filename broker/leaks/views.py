"""Other ways to read bytes: as UTF-16 and as base64.  Pure.

A view knows where each of its characters stood.  Both forms are found wherever they begin: in a log to which another
program appended, in strings of a compiled file, in a value of a Kubernetes manifest.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial

# Fewer bytes hold no key of any form that a beginning or a name tells.
_WIDE_LEAST = 16
_PACKED_LEAST = 24
# So many bytes of the line before an encoded value are searched for names, for forms that only a name tells.
_BEFORE = 80

_NONE_LEAST = b"\0" * _WIDE_LEAST
_SOME = re.compile(rb"[^\0]")
_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_FLAT = bytes(0x61 if character in _DIGITS else 0x20 for character in range(256))
_FLAT_LEAST = b"a" * _PACKED_LEAST
# The lines of one value: of MIME, or a block of YAML.
_RUN = re.compile(rb"[A-Za-z0-9+/_-]+(?:\r?\n[ \t]*[A-Za-z0-9+/_-]+)*")
_DIGITS_OF_A_LINE = re.compile(rb"[A-Za-z0-9+/_-]+")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n"


class View:
    """Texts that were read from other bytes, one after another."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._origins: list[Callable[[int], int]] = []
        self._size = 0

    @property
    def text(self) -> bytes:
        """All texts together."""
        return b"".join(self._pieces)

    def add(self, piece: bytes, origin: Callable[[int], int]) -> None:
        """Add a text; ``origin`` tells where each of its characters stood."""
        self._pieces.append(piece)
        self._starts.append(self._size)
        self._origins.append(origin)
        self._size += len(piece)

    def origin(self, at: int) -> int:
        """Where the character at ``at`` stood; -1 if it stands in the bytes themselves as well."""
        part = bisect_right(self._starts, at) - 1
        return self._origins[part](at - self._starts[part])


def wide(data: bytes) -> View | None:
    """All stretches in which every second byte is empty, in either order.

    Latin text in UTF-16 is so.
    """
    if b"\0" not in data:
        return None
    view, halves = View(), (data[::2], data[1::2])
    for side in (0, 1):
        text, empty = halves[side], halves[1 - side]
        at = empty.find(_NONE_LEAST)
        while at >= 0:
            some = _SOME.search(empty, at)
            end = some.start() if some else len(text)
            # The empty byte may stand before or after its character, so there may be one more character at one end.
            first, last = (at, end + 1) if side == 0 else (max(at - 1, 0), end)
            view.add(text[first:last], partial(_stepping, 2 * first + side))
            view.add(b"\n", _as_it_is)
            at = empty.find(_NONE_LEAST, end)
    return view if view.text else None


def _stepping(start: int, offset: int) -> int:
    return start + 2 * offset


def packed(data: bytes, names: Sequence[bytes]) -> View | None:
    """The decoded base64 in ``data``, read from each of the first four digits of a run.

    For forms that only a name tells, ``names`` (in small letters) that stand on the line before the run are put before
    each text.  The line itself isn't: it would be there once for every run on it.
    """
    flat = data.translate(_FLAT)
    at = flat.find(_FLAT_LEAST)
    if at < 0:
        return None
    view = View()
    while at >= 0:
        match = _RUN.match(data, at)
        assert match is not None
        line = data[max(at - _BEFORE, 0) : at]
        near = line[line.rfind(b"\n") + 1 :].lower()
        before = b"\n" + b"".join(name + b" " for name in names if name in near)
        digits = match[0].translate(_STANDARD, _SPACE)
        run = Run(match)
        for skipped in range(4):
            view.add(before + _decoded(digits[skipped:]), partial(run.origin, skipped, len(before)))
        view.add(b"\n", _as_it_is)
        at = flat.find(_FLAT_LEAST, match.end())
    return view


def _as_it_is(_offset: int) -> int:
    return -1


def _decoded(digits: bytes) -> bytes:
    over = len(digits) % 4
    return binascii.a2b_base64(digits[: len(digits) - (over == 1)] + b"==")


class Run:
    """Where the digits of a run stand.

    This is worked out once, and only if something was found in the run.
    """

    def __init__(self, match: re.Match[bytes]) -> None:
        self._match = match
        self._numbers: list[int] = []
        self._starts: list[int] = []

    def origin(self, skipped: int, before: int, offset: int) -> int:
        """Where the digit stands in which the byte at ``offset`` begins.

        The text was decoded without the first ``skipped`` digits, and has ``before`` bytes of names before it.
        """
        if offset < before:
            return -1
        if not self._numbers:
            self.note_lines()
        number = skipped + (offset - before) * 4 // 3
        line = bisect_right(self._numbers, number) - 1
        return self._starts[line] + number - self._numbers[line]

    def note_lines(self) -> None:
        """Work out where each line of digits stands."""
        number = 0
        for line in _DIGITS_OF_A_LINE.finditer(self._match[0]):
            self._numbers.append(number)
            self._starts.append(self._match.start() + line.start())
            number += len(line[0])
