"""Streams as a scanner reads them: it looks at everything that came before one broke."""

from __future__ import annotations

import io
import zlib
from typing import IO

_HEAD = 512
_PIECE = 65_536


def filled(stream: io.BufferedIOBase, size: int) -> tuple[bytes, Exception | None]:
    """Up to ``size`` bytes, fewer only at the end; and the error after them if the stream broke."""
    parts: list[bytes] = []
    try:
        while size > 0 and (part := stream.read1(size)):
            parts.append(part)
            size -= len(part)
    except Exception as error:  # noqa: BLE001 - handed on once these bytes were looked at
        return b"".join(parts), error
    return b"".join(parts), None


class _Raw(io.RawIOBase):
    """A stream made of pieces."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a memoryview is what io hands over
        data = self._piece(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _piece(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        raise NotImplementedError


class Budget:
    """How many bytes and entries may still be unpacked of one file.

    Its methods raise ValueError once there are more.
    """

    def __init__(self, limit: int, entries: int) -> None:
        self.left = limit
        self.entries = entries

    def enter(self, count: int = 1) -> None:
        """Note that there are so many more entries, in whichever archive."""
        self.entries -= count
        if self.entries < 0:
            raise ValueError("holds too many entries")

    def take(self, count: int) -> None:
        """Note that so many bytes were unpacked."""
        self.left -= count
        if self.left < 0:
            raise ValueError("unpacks to too much")


class _Counted(_Raw):
    def __init__(self, inner: io.BufferedIOBase, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget

    def _piece(self, size: int) -> bytes:
        self._budget.take(0)
        data = self._inner.read1(size)
        self._budget.take(len(data))
        return data


class _Rejoined(_Raw):
    def __init__(self, head: bytes, broken: Exception | None, rest: io.BufferedIOBase) -> None:
        self._head = head
        self._broken = broken
        self._rest = rest

    def _piece(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        if self._broken is not None:
            raise self._broken
        return self._rest.read1(size)


class _Held(_Raw):
    def __init__(self, data: memoryview) -> None:
        self._left = data

    def _piece(self, size: int) -> bytes:
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data


class Part(_Raw):
    """The next bytes of a stream that goes on behind them.

    ``left`` is how many have not come yet.  If the stream ends too soon, some are left for good.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self.left = size

    def _piece(self, size: int) -> bytes:
        data = self._stream.read(min(size, self.left))
        self.left -= len(data)
        return data

    def leave(self) -> None:
        """Read on to the end of this part, or of the stream if that comes first."""
        while self.read(_PIECE):
            pass


class _Inflated(_Raw):
    """Unpacks what zlib packed, in its own form or gzip's."""

    def __init__(self, packed: io.BufferedIOBase, alone: bool) -> None:
        self._packed = packed
        self._alone = alone
        self._inflating = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def _piece(self, size: int) -> bytes:
        while not self._inflating.eof:
            given = self._inflating.unconsumed_tail or self._packed.read1(_PIECE)
            data = self._inflating.decompress(given, size)
            if data:
                return data
            if not given and not self._inflating.eof:
                raise EOFError
        if self._alone and (self._inflating.unused_data or self._packed.read1(1)):
            raise ValueError("has more behind what is packed")
        return b""


class Patient:
    """The stream that tarfile reads.

    If the stream breaks, tarfile gets everything that came before, and then the error.
    """

    def __init__(self, inner: io.BufferedIOBase) -> None:
        self._inner = inner
        self._broken: Exception | None = None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        if self._broken is not None:
            raise self._broken
        data, self._broken = filled(self._inner, size)
        if self._broken is not None and not data:
            raise self._broken
        return data


def counted(stream: io.BufferedIOBase, budget: Budget) -> io.BufferedIOBase:
    """The same bytes, each of which spends the budget."""
    return io.BufferedReader(_Counted(stream, budget))


def held(data: memoryview) -> io.BufferedIOBase:
    """These bytes as a stream that doesn't copy all of them."""
    return io.BufferedReader(_Held(data))


def looked_at(stream: io.BufferedIOBase) -> tuple[bytes, io.BufferedIOBase]:
    """The beginning of the stream, and a stream that still has all of it."""
    head, broken = filled(stream, _HEAD)
    return head, io.BufferedReader(_Rejoined(head, broken, stream))


def inflated(packed: io.BufferedIOBase, *, alone: bool) -> io.BufferedIOBase:
    """The unpacked bytes of what zlib packed.

    Reading raises ValueError if that should be ``alone`` and something follows it.
    """
    return io.BufferedReader(_Inflated(packed, alone))
