"""Standard streams that can't fail.

If something can't be written, it is lost.  That is noted, and stops nothing.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO


@dataclass(slots=True)
class Streams:
    """``lost`` if not all was written: a closed pipe, a full disk, no stream at all."""

    lost: bool = False


class _Raw(io.RawIOBase):
    def __init__(self, stream: TextIO | None, streams: Streams) -> None:
        buffer: Any = None if stream is None else stream.buffer
        # Not through its buffer: what the buffer can't write would fail once more when the program ends.
        self._inner = getattr(buffer, "raw", buffer)
        self._streams = streams

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._inner is not None and self._inner.isatty()

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        rest = memoryview(data)
        try:
            while self._inner is not None and rest and (count := self._inner.write(rest)):
                rest = rest[count:]
        except (OSError, ValueError):
            self._inner = None  # from now on nothing is written
        self._streams.lost = self._streams.lost or len(rest) > 0
        return len(data)


@contextmanager
def unfailing() -> Iterator[Streams]:
    """Make standard output and standard error such streams.

    Characters that a stream's encoding lacks are escaped.
    """
    streams, kept = Streams(), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = (_text(stream, streams) for stream in kept)
    try:
        yield streams
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = kept


def _text(stream: TextIO | None, streams: Streams) -> io.TextIOWrapper:
    if stream is not None:
        stream.flush()
    raw = io.BufferedWriter(_Raw(stream, streams))
    encoding = "utf-8" if stream is None else stream.encoding
    return io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)
