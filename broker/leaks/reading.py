"""Streams as a scanner reads them: whatever came before they broke is looked at too."""

from __future__ import annotations

import io

_HEAD = 512
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


def filled(stream: io.BufferedIOBase, size: int) -> tuple[bytes, Exception | None]:
    """Up to ``size`` bytes, fewer at the end only; and what broke the stream after them, where it broke."""
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
    """How much may still be unpacked of one file; raises ValueError once it is more."""

    def __init__(self, limit: int) -> None:
        self.left = limit

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


class _Narrowed(_Raw):
    def __init__(self, inner: io.BufferedIOBase) -> None:
        self._inner = inner

    def _piece(self, size: int) -> bytes:
        while data := self._inner.read1(size):
            if narrow := data.replace(b"\0", b""):
                return narrow
        return b""


class Patient:
    """What tarfile reads from: it gets everything that came before the stream broke, then what broke it."""

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


def looked_at(stream: io.BufferedIOBase) -> tuple[bytes, io.BufferedIOBase]:
    """How the stream begins, and all of it still."""
    head, broken = filled(stream, _HEAD)
    return head, io.BufferedReader(_Rejoined(head, broken, stream))


def narrowed(head: bytes, stream: io.BufferedIOBase) -> io.BufferedIOBase:
    """UTF-16 without its empty bytes, where ``head`` looks like that: keys are ASCII.  Anything else as it is."""
    even, odd = head[::2], head[1::2]
    wide = head.startswith(_WIDE_MARKS) or any(
        one.count(0) * 10 >= len(one) * 9 and not other.count(0) for one, other in ((even, odd), (odd, even)) if one
    )
    return io.BufferedReader(_Narrowed(stream)) if wide else stream
