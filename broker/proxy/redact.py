"""Masks a key that an upstream echoes.  Pure.

It finds the key however it is encoded and escaped, and wherever the stream is cut.  It masks byte for byte, so lengths
stay true.  It can't see a key that the upstream split, compressed, encrypted, reversed or encoded in an unusual way, or
whose pieces come in answers to several requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from broker.base.following import Following, found_in
from broker.base.spellings import Span, Spellings, masked
from broker.base.stretches import Stretch

# Reading nothing but escapes takes half a millisecond for each KiB.
_PIECE = 8_192
_FEW = 64


class Redactor:
    """Masks one key in one stream.  Only what could be the beginning of a key is ever held back."""

    def __init__(self, key: bytes) -> None:
        self._spellings = Spellings(key)
        self._shortest = len(key)
        self._stream = Following(self._spellings)
        self._held = b""
        self._within: list[Span] = []  # the parts of what is held that are a key's
        self.found = False

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that may be passed on after ``chunk`` has come; at times there are none."""
        return self._fed(chunk, self._spellings.near_escapes(chunk))

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """The same in parts.

        If ``chunk`` holds many escapes, others should have their turn between its parts.
        """
        stretches = self._spellings.near_escapes(chunk)
        if len(chunk) > _PIECE and stretches and _has_many_escapes(chunk, stretches):
            yield from (self.feed(chunk[at : at + _PIECE]) for at in range(0, len(chunk), _PIECE))
        else:
            yield self._fed(chunk, stretches)

    def flush(self) -> bytes:
        """The bytes that were held back, at the end of the stream; half a key is masked too."""
        half = self._stream.half()
        found = self._within if half is None else [*self._within, (half, len(self._held))]
        held, self._held, self._within = self._held, b"", []
        return self._masked(held, found)

    def headers(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """An answer's headers, masked: their values, and their names too."""
        shortest = self._shortest
        return [
            (name if len(name) < shortest else self._text(name), value if len(value) < shortest else self._text(value))
            for name, value in headers
        ]

    def _text(self, text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        return self._masked(data, found_in(data, self._spellings)).decode("utf-8", "surrogateescape")

    def _fed(self, chunk: bytes, stretches: Sequence[Stretch]) -> bytes:
        known = len(self._held)
        data = self._held + chunk if known else chunk
        found, pending = self._stream.look(data, known, stretches)
        found += self._within
        found += [(known + begin, known + end) for begin, end in self._spellings.unescaped(chunk, stretches)]
        passing = len(data) - pending
        self._held = data[passing:]
        self._within = [(max(begin - passing, 0), end - passing) for begin, end in found if end > passing]
        return self._masked(data[:passing], found)

    def _masked(self, data: bytes, found: Sequence[Span]) -> bytes:
        # call (13) whatever of the answer is a key's
        self.found = self.found or bool(found)
        return masked(data, found)


def _has_many_escapes(chunk: bytes, stretches: Sequence[Stretch]) -> bool:
    # To count takes longer than all else that is done to a chunk of binary data.
    if sum(end - begin for begin, end in stretches) <= _PIECE:
        return False
    return sum(chunk.count(mark) for mark in (b"%", b"\\", b"&")) * _FEW >= len(chunk)
