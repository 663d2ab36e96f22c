"""How a secret may be written: its encodings, and where they stand in a text.  Pure."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, reduce
from itertools import accumulate, pairwise
from operator import or_

from broker.base.escapes import LONGEST, MARK, VISIBLE, alone
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


def encodings(secret: bytes) -> list[bytes]:
    """The secret as it is, in hexadecimal, and in base64.

    In base64 it has several forms, by where it begins within a base64 text.
    """
    digits = secret.hex()
    found = [secret, digits.encode(), digits.upper().encode()]
    for shift in range(3):
        # Less the characters that also depend on what stands before or after the secret.
        first, last = (shift * 8 + 5) // 6, (shift + len(secret)) * 8 // 6
        encoded = b2a_base64(b"\0" * shift + secret, newline=False)[first:last]
        found += [encoded, encoded.translate(_URLSAFE)]
    return found


class Spellings:
    """The encodings of one secret, end to end, and sets of their bytes: one bit for each byte.

    Most texts hold no escape and don't end within a spelling: then the encodings are enough, and the rest isn't made.

    Attributes:
        joined: the encodings, end to end.
        longest: no spelling has more bytes than this.
    """

    def __init__(self, secret: bytes) -> None:
        self._texts: Sequence[bytes] = [text for text in dict.fromkeys(encodings(secret)) if text]
        self.joined = b"".join(self._texts)
        self.longest = LONGEST * max(map(len, self._texts))

    @cached_property
    def firsts(self) -> int:
        """The bits of their first bytes."""
        return sum(1 << begin for begin, _ in self._places_of_texts)

    @cached_property
    def lasts(self) -> int:
        """The bits of their last bytes."""
        return sum(1 << (end - 1) for _, end in self._places_of_texts)

    @cached_property
    def halves(self) -> int:
        """The bits of bytes with which at least half of their encoding is there."""
        return sum((1 << end) - (1 << (begin + (end - begin - 1) // 2)) for begin, end in self._places_of_texts)

    @cached_property
    def places(self) -> Mapping[int, int]:
        """For each byte's value, the bits of the places where it stands."""
        return _Places(self.joined)

    @cached_property
    def openings(self) -> Mapping[int, int]:
        """The same, of their encoding's first place only."""
        return _Openings(self.firsts, self.places)

    @cached_property
    def escaped(self) -> Mapping[bytes, int]:
        """For each escape, the bits of the places where it may stand.

        These are all if what comes after it counts.
        """
        return _Escaped(self.places)

    @cached_property
    def holds_marks(self) -> bool:
        """Whether the secret itself holds what escapes begin with.

        Then it may go on with one unescaped.
        """
        return MARK.search(self.joined) is not None

    @cached_property
    def _places_of_texts(self) -> Sequence[Span]:
        return list(pairwise(accumulate(map(len, self._texts), initial=0)))

    @cached_property
    def _stretches(self) -> Stretches:
        """Where there may be a spelling with an escape in it."""
        return Stretches(VISIBLE + self.joined, len(min(self._texts, key=len, default=b"")))

    def near_escapes(self, text: bytes) -> Sequence[Stretch]:
        """The stretches of ``text``; none if no escape begins in it."""
        return self._stretches.of(text) if b"%" in text or b"\\" in text or b"&" in text else ()

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
    def __init__(self, firsts: int, places: Mapping[int, int]) -> None:
        super().__init__()
        self._firsts, self._places = firsts, places

    def __missing__(self, byte: int) -> int:
        found = self[byte] = self._firsts & self._places[byte]
        return found


class _Escaped(dict[bytes, int]):
    _MOST = 4_096

    def __init__(self, places: Mapping[int, int]) -> None:
        super().__init__()
        self._places = places

    def __missing__(self, escape: bytes) -> int:
        if len(self) == self._MOST:
            self.clear()
        read = alone(escape)
        found = self[escape] = reduce(or_, (self._places[value] for value, _ in read)) if read else -1
        return found
