"""Codings of an answer's body: what encodes nothing passes, what is known is decoded, the rest is named.  Pure.

Bounded, as a few bytes can decode to gigabytes: what comes out at once, and how many times as much as came in.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from broker.wire.framing import Malformed, TooMuch

IDENTITY: Final = frozenset({b"identity"})
_KNOWN: Final = frozenset({b"gzip", b"x-gzip", b"deflate"})
_LAYERS_MAX: Final = 2
_AT_ONCE: Final = 65_536
# No text compresses further than about 1:1000; honest ones stay far below.
_RATIO_MAX: Final = 200
_UNWATCHED: Final = 1 << 20


def layers(members: Sequence[bytes]) -> list[bytes]:
    """The codings that encode something, in the order in which they were applied; ``members`` in lower case."""
    return [member for member in members if member not in IDENTITY]


def decodable(codings: Sequence[bytes]) -> bool:
    """Whether :class:`Decoder` can undo these."""
    return len(codings) <= _LAYERS_MAX and _KNOWN.issuperset(codings)


class Decoder:
    """Undoes gzip (RFC 1952) and deflate (RFC 1950, and the bare RFC 1951 that some send under that name)."""

    def __init__(self, codings: Sequence[bytes]) -> None:
        self._steps = [_Inflating(raw_allowed=coding == b"deflate") for coding in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` decodes to, in pieces of bounded size.

        Raises:
            Malformed: it is not in that coding.
            TooMuch: it decodes to too many times as much.
        """
        return self._through(0, data)

    def _through(self, number: int, data: bytes) -> Iterator[bytes]:
        if number == len(self._steps):
            if data:
                yield data
            return
        for piece in self._steps[number].feed(data):
            yield from self._through(number + 1, piece)

    def finish(self) -> None:
        """Check that nothing is missing at the end; raises Malformed."""
        if not all(step.whole for step in self._steps):
            raise Malformed("its coded body is cut short")


class _Inflating:
    """One layer."""

    def __init__(self, *, raw_allowed: bool) -> None:
        self._raw_allowed = raw_allowed
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as it says itself
        self._begun = False
        self._came = self._went = 0

    @property
    def whole(self) -> bool:
        """Whether it ended where it may."""
        return self._inflate.eof or not self._begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Pieces."""
        self._came += len(data)
        while data:
            if self._inflate.eof:  # a further gzip member (RFC 1952 §2.2)
                self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            piece = self._piece(data)
            self._went += len(piece)
            if self._went > _UNWATCHED and self._went > self._came * _RATIO_MAX:
                raise TooMuch(f"it decodes to more than {_RATIO_MAX} times as much")
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

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
