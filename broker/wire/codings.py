"""Codings of an answer's body.  Pure.

What encodes nothing passes, what is known is decoded, and the rest is named.

All is bounded, as a few bytes can decode to gigabytes.  There are bounds for what comes out at once, for how many times
as much comes out as came in (in each layer, and over all of them), and for how many members hold next to nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from broker.wire.framing import Malformed, TooMuch

IDENTITY: Final = frozenset({b"identity"})
_KNOWN: Final = frozenset({b"gzip", b"x-gzip", b"deflate"})
_LAYERS_MAX: Final = 2
_AT_ONCE: Final = 65_536  # bytes in, bytes out
# No text compresses further than about 1:1000; honest ones stay far below.
_RATIO_MAX: Final = 200
_UNWATCHED: Final = 1 << 20
# So many members that hold next to nothing: honest ones hold kilobytes (64 in BGZF), the least takes 20 bytes.
_MEMBERS_MAX: Final = 1_000
_MEMBER_MIN: Final = 64


def layers(members: Sequence[bytes]) -> list[bytes]:
    """The codings that encode something, in the order in which they were applied.

    ``members`` are in lower case.
    """
    return [member for member in members if member not in IDENTITY]


def decodable(codings: Sequence[bytes]) -> bool:
    """Whether :class:`Decoder` can undo these."""
    return len(codings) <= _LAYERS_MAX and _KNOWN.issuperset(codings)


class Decoder:
    """Undoes gzip (RFC 1952) and deflate (RFC 1950).

    Some send the bare RFC 1951 under the name of deflate; that is undone too.
    """

    def __init__(self, codings: Sequence[bytes]) -> None:
        self._steps = [_Inflating(raw_allowed=coding == b"deflate") for coding in reversed(codings)]
        self._growth = _Growth()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` decodes to, in pieces of bounded size.

        Raises:
            Malformed: it is not in that coding.
            TooMuch: it decodes to too many times as much, over all layers together or in one.
        """
        self._growth.came += len(data)
        for piece in self._through(0, data):
            self._growth.went(len(piece))
            yield piece

    def _through(self, number: int, data: bytes) -> Iterator[bytes]:
        if number == len(self._steps):
            yield data
            return
        for piece in self._steps[number].feed(data):
            yield from self._through(number + 1, piece)

    def finish(self) -> None:
        """Check that nothing is missing at the end; raises Malformed."""
        if not all(step.whole for step in self._steps):
            raise Malformed("its coded body is cut short")


class _Growth:
    """Bounds how many times as much goes out as came in."""

    def __init__(self) -> None:
        self.came = 0
        self._went = 0

    def went(self, size: int) -> None:
        """Count ``size`` bytes more; raises TooMuch."""
        self._went += size
        if self._went > _UNWATCHED and self._went > self.came * _RATIO_MAX:
            raise TooMuch(f"it decodes to more than {_RATIO_MAX} times as much")


class _Inflating:
    """One layer of coding."""

    def __init__(self, *, raw_allowed: bool) -> None:
        self._raw_allowed = raw_allowed
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as it says itself
        self._first = b""  # until two bytes came: they tell gzip, zlib and bare deflate apart
        self._begun = False
        self._members = 1
        self._growth = _Growth()

    @property
    def whole(self) -> bool:
        """Whether it has ended where it may end."""
        return self._inflate.eof or not self._growth.came

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` decodes to in this layer, in pieces."""
        self._growth.came += len(data)
        if not self._begun:
            data, self._first = self._first + data, b""
            if len(data) < 2:
                self._first = data
                return
        for at in range(0, len(data), _AT_ONCE):  # what is left after a member is copied: not all that came, each time
            yield from self._pieces(data[at : at + _AT_ONCE])

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate.eof:
                self._next_member()
            piece = self._piece(data)
            self._growth.went(len(piece))
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

    def _next_member(self) -> None:
        """Begin with the next member (RFC 1952 §2.2).

        To begin one costs more than most bytes do, so only so many may hold next to nothing.
        """
        self._members += 1
        if self._members > _MEMBERS_MAX and self._members * _MEMBER_MIN > self._growth.came:
            raise TooMuch("its coded body has too many parts")
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def _piece(self, data: bytes) -> bytes:
        begun, self._begun = self._begun, True
        try:
            return self._inflate.decompress(data, _AT_ONCE)
        except zlib.error:
            if begun or not self._raw_allowed:
                raise Malformed("its body is not in the coding that it names") from None
        self._inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        self._raw_allowed = False
        return self._piece(data)
