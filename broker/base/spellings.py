"""How a secret may be written: its encodings, and where they stand in a text.  Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_

from broker.base.escapes import LONGEST, VISIBLE, alone
from broker.base.stretches import Stretch, Stretches

_URLSAFE = bytes.maketrans(b"+/", b"-_")
# For each byte, what translates it to "1" and every other one to "0".
_ONLY = [b"0" * byte + b"1" + b"0" * (255 - byte) for byte in range(256)]

_MASK = b"*"
# To look into stretches one by one pays if they are this part of a text, or less.
_FEW = 8

Span = tuple[int, int]


def masked(text: bytes, found: Sequence[Span]) -> bytes:
    """``text`` with a ``*`` for each byte of what was found, so that lengths stay true."""
    if not found:
        return text
    changed = bytearray(text)
    for begin, end in found:
        changed[begin:end] = _MASK * (min(end, len(text)) - begin)
    return bytes(changed)


def encodings(secret: bytes) -> Iterator[bytes]:
    """The secret as it is, in hexadecimal, and in base64.

    In base64 it has several forms, by where it begins within a base64 text.
    """
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        # Less the characters that also depend on what stands before or after the secret.
        first, last = (shift * 8 + 5) // 6, (shift + len(secret)) * 8 // 6
        encoded = b64encode(b"\0" * shift + secret)[first:last]
        yield encoded
        yield encoded.translate(_URLSAFE)


class Spellings:
    """The encodings of one secret, end to end, and sets of their bytes: one bit for each byte.

    Attributes:
        joined: the encodings, end to end.
        firsts: the bits of their first bytes.
        lasts: the bits of their last bytes.
        halves: the bits of bytes with which at least half of their encoding is there.
        places: for each byte's value, the bits of the places where it stands.
        openings: the same, of their encoding's first place only.
        escaped: for each escape, the bits of the places where it may stand; all if what comes after it counts.
        stretches: where there may be a spelling with an escape in it.
        longest: no spelling has more bytes than this.
    """

    def __init__(self, secret: bytes) -> None:
        self._texts: Sequence[bytes] = [text for text in dict.fromkeys(encodings(secret)) if text]
        self.joined = b"".join(self._texts)
        self.firsts = self.lasts = self.halves = 0
        at = 0
        for text in self._texts:
            end = at + len(text)
            self.firsts |= 1 << at
            self.lasts |= 1 << (end - 1)
            self.halves |= (1 << end) - (1 << (at + (len(text) - 1) // 2))
            at = end
        self.places = _Places(self.joined)
        self.openings = _Openings(self.firsts, self.places)
        self.escaped = _Escaped(self.places)
        self.stretches = Stretches(VISIBLE + self.joined, len(min(self._texts, key=len, default=b"")))
        self.longest = LONGEST * max(map(len, self._texts))

    def near_escapes(self, text: bytes) -> Sequence[Stretch]:
        """The stretches of ``text``; none if no escape begins in it."""
        return self.stretches.of(text) if b"%" in text or b"\\" in text or b"&" in text else ()

    def unescaped(self, text: bytes, stretches: Sequence[Stretch] = ()) -> list[Span]:
        """Where an encoding stands in ``text`` as it is.

        ``stretches`` are those of the text if they are known; they save time.
        """
        if stretches and sum(end - begin for begin, end in stretches) * _FEW < len(text):
            return [
                span for begin, end in stretches for form in self._texts for span in _places_of(form, text, begin, end)
            ]
        return [span for form in self._texts if form in text for span in _places_of(form, text, 0, len(text))]


def _places_of(form: bytes, text: bytes, begin: int, end: int) -> Iterator[Span]:
    at = text.find(form, begin, end)
    while at >= 0:
        yield at, at + len(form)
        at = text.find(form, at + len(form), end)


class _Places(dict[int, int]):
    """For each byte's value, the bits of its places.  Found when first asked for.

    Most texts ask for few.
    """

    def __init__(self, joined: bytes) -> None:
        super().__init__()
        self._reversed = joined[::-1]

    def __missing__(self, byte: int) -> int:
        found = self[byte] = int(self._reversed.translate(_ONLY[byte]), 2)
        return found


class _Openings(dict[int, int]):
    def __init__(self, firsts: int, places: _Places) -> None:
        super().__init__()
        self._firsts, self._places = firsts, places

    def __missing__(self, byte: int) -> int:
        found = self[byte] = self._firsts & self._places[byte]
        return found


class _Escaped(dict[bytes, int]):
    _MOST = 4_096

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self._places = places

    def __missing__(self, escape: bytes) -> int:
        if len(self) == self._MOST:
            self.clear()
        read = alone(escape)
        found = self[escape] = reduce(or_, (self._places[value] for value, _ in read)) if read else -1
        return found
