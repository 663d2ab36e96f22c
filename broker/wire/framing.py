"""Heads and bodies of HTTP/1.1 messages, as bytes (RFC 9112).  Pure; both sides use it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

Field = tuple[bytes, bytes]

TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
# Everything that a field's value may not hold (RFC 9110 §5.5); what lies beyond ASCII passes.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Longest first line of a chunk: its size, and extensions that nobody needs.
_CHUNK_LINE_MAX: Final = 256
_TRAILER_MAX: Final = 8_192
_PLAIN_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?")


class Malformed(Exception):
    """Bytes that are no HTTP/1.1; the text says what is wrong and repeats none of them."""


class TooMuch(Malformed):
    """More than the bounds allow."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many bytes and how many fields a head may have."""

    size: int
    fields: int


def fields_of(lines: Sequence[bytes], bounds: Bounds) -> list[Field]:
    """The fields of a head or a trailer section.

    Names are as they were sent.  Values are without the blanks around them.

    Args:
        lines: without their ends.
        bounds: only the number of fields counts here.

    Raises:
        TooMuch: too many fields.
        Malformed: a line is no field, or holds a control character.
    """
    if len(lines) > bounds.fields:
        raise TooMuch(f"more than {bounds.fields} fields")
    found = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not (name and colon):
            raise Malformed("a field's name is not a token, or no colon follows it")
        found.append((name, value.strip(b" \t")))
    # All at once: what no name or value may hold, none of them put together may.
    if found and TOKEN.fullmatch(b"".join([name for name, _ in found])) is None:
        raise Malformed("a field's name is not a token, or no colon follows it")
    if _CONTROL.search(b"".join([value for _, value in found])) is not None:
        raise Malformed("a field's value holds a control character")
    return found


def length_of(value: bytes) -> int:
    """A ``Content-Length``; raises Malformed if it is not a plain number."""
    if _LENGTH.fullmatch(value) is None:
        raise Malformed("Content-Length is not a number")
    return int(value)


def unfolded(lines: Sequence[bytes]) -> list[bytes]:
    """Lines of fields, the folded ones joined (RFC 9112 §5.2).

    Raises:
        Malformed: the first one is folded.
    """
    joined: list[bytes] = []
    for line in lines:
        if line[:1] not in {b" ", b"\t"}:
            joined.append(line)
        elif joined:
            joined[-1] += b" " + line.strip(b" \t")
        else:
            raise Malformed("a blank stands before the first field")
    return joined


class Counted:
    """A body whose number of bytes is known."""

    __slots__ = ("_left", "rest")

    def __init__(self, length: int) -> None:
        self._left = length
        self.rest = b""

    @property
    def over(self) -> bool:
        """Whether the body is whole; ``rest`` is what came after it."""
        return not self._left

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that is body."""
        if len(data) <= self._left:
            self._left -= len(data)
            return data
        body, self.rest = data[: self._left], data[self._left :]
        self._left = 0
        return body


class UntilClose:
    """A body that ends with its connection."""

    __slots__ = ()
    over = False
    rest = b""

    def feed(self, data: bytes) -> bytes:
        """All of ``data``: there is no end before the connection's."""
        return data


class Chunked:
    """A chunked body; extensions are dropped, trailers are checked and dropped (RFC 9112 §7.1)."""

    __slots__ = ("_bounds", "_held", "_left", "_spent", "_state", "_trailers", "over", "rest")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._held = b""
        self._left = 0
        self._spent = 0  # bytes of extensions and trailers, which bear no body
        self._state: Callable[[bytes, int, list[bytes]], int | None] = self._size
        self._trailers: list[bytes] = []
        self.over = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The body's bytes within ``data``.

        Raises:
            Malformed: a chunk has no size, or doesn't end where it says.
            TooMuch: extensions or trailers are beyond the bounds.
        """
        if self._held:
            data, self._held = self._held + data, b""
        body: list[bytes] = []
        at: int | None = 0
        while at is not None and not self.over:
            at = self._state(data, at, body)
        return body[0] if len(body) == 1 else b"".join(body)

    def _size(self, data: bytes, at: int, body: list[bytes]) -> int | None:
        # Whole chunks without an extension need no state for each of their parts. There may be many, of a byte each.
        while (plain := _PLAIN_SIZE.match(data, at)) is not None:
            begin, size = plain.end(), int(plain[1], 16)
            end = begin + size
            if not size or data[end : end + 2] != b"\r\n":
                break
            body.append(data[begin:end])
            at = end + 2
        return self._any_size(data, at)

    def _any_size(self, data: bytes, at: int) -> int | None:
        end = self._line_end(data, at, _CHUNK_LINE_MAX)
        if end is None:
            return None
        match = _CHUNK_SIZE.fullmatch(data, at, end)
        if match is None or _CONTROL.search(data, at, end) is not None:
            raise Malformed("a chunk does not begin with its size")
        self._spend(end - match.end(1))
        self._left = int(match[1], 16)
        self._state = self._data if self._left else self._trailer
        return end + 2

    def _data(self, data: bytes, at: int, body: list[bytes]) -> int | None:
        part = data[at : at + self._left]
        if part:
            body.append(part)
            self._left -= len(part)
        if self._left:
            return None
        self._state = self._end
        return at + len(part)

    def _end(self, data: bytes, at: int, _body: list[bytes]) -> int | None:
        ending = data[at : at + 2]
        if len(ending) < 2:
            if ending not in {b"", b"\r"}:
                raise Malformed("a chunk is longer than it says")
            self._held = ending
            return None
        if ending != b"\r\n":
            raise Malformed("a chunk is longer than it says")
        self._state = self._size
        return at + 2

    def _trailer(self, data: bytes, at: int, _body: list[bytes]) -> int | None:
        end = self._line_end(data, at, _TRAILER_MAX)
        if end is None:
            return None
        if end > at:
            self._spend(end - at)
            self._trailers.append(data[at:end])
            if len(self._trailers) > self._bounds.fields:
                raise TooMuch(f"more than {self._bounds.fields} fields after the body")
            return end + 2
        fields_of(self._trailers, self._bounds)
        self._trailers.clear()
        self.over, self.rest = True, data[end + 2 :]
        return None

    def _line_end(self, data: bytes, at: int, longest: int) -> int | None:
        end = data.find(b"\r\n", at, at + longest + 2)
        if end >= 0:
            return end
        if len(data) - at > longest:
            raise TooMuch("a line between chunks or after the body is too long")
        self._held = data[at:]
        return None

    def _spend(self, size: int) -> None:
        self._spent += size
        if self._spent > self._bounds.size:
            raise TooMuch(f"more than {self._bounds.size} bytes of chunk extensions and trailers")


Framing = Counted | UntilClose | Chunked
