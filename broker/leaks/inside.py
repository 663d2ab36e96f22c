"""Archives with something before them.

Examples are an executable jar, a script that unpacks itself, and a package of Debian's.  They are noticed while the
file is read as it is, which costs a search.  They and what follows them are kept for afterwards.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

# So many bytes tell an archive from something that only begins like one.
_TELLING = 1_024
_ZIP = re.compile(rb"PK\x03\x04[\x00-\x3f]\x00..[\x00\x08\x09\x0c\x0e\x5d\x5f\x63]\x00.{16}.[\x00-\x03]", re.DOTALL)
_ZIP_END = b"PK\x05\x06"
_ZIP_END_SIZE = 22


class Inner(NamedTuple):
    """Where an archive begins and at the latest ends, and its form."""

    at: int
    end: int
    form: str


def _is_zip(start: bytes) -> bool:
    return _ZIP.match(start) is not None and int.from_bytes(start[26:28], "little") > 0


def _is_gzip(start: bytes) -> bool:
    return start[3:4] < b"\x20" and _opens(zlib.decompressobj(31).decompress, start)


def inflates(start: bytes) -> bool:
    """Whether something that zlib packed begins with ``start``."""
    return _opens(zlib.decompressobj().decompress, start)


def _opens(decompress: Callable[[bytes], bytes], start: bytes) -> bool:
    try:
        decompress(start)
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError):
        return False
    return True


class _Form(NamedTuple):
    magic: bytes
    name: str
    is_one: Callable[[bytes], bool]

    def begins(self, data: bytes, start: int, end: int) -> int:
        """Where the first archive of this form begins; ``end`` if none begins before that."""
        at = data.find(self.magic, start, end)
        while at >= 0 and not self.is_one(data[at : at + _TELLING]):
            at = data.find(self.magic, at + 1, end)
        return at if at >= 0 else end


_FORMS = (
    _Form(b"PK\x03\x04", "zip", _is_zip),
    _Form(b"\x1f\x8b\x08", "gzip", _is_gzip),
    _Form(b"\xfd7zXZ\x00", "xz", lambda start: _opens(lzma.LZMADecompressor().decompress, start)),
    _Form(b"BZh", "bzip2", lambda start: start[4:10] == b"1AY&SY" and _opens(bz2.BZ2Decompressor().decompress, start)),
)


def first(data: bytes, end: int) -> int:
    """Where the first archive in ``data`` begins; ``end`` if none begins before that."""
    for form in _FORMS:
        end = form.begins(data, 0, end)
    return end


def _zip_end(data: bytes, start: int) -> int:
    """The place behind a zip's index and its comment; if it has no index, the end of ``data``."""
    at = data.rfind(_ZIP_END, start)
    return at + _ZIP_END_SIZE + int.from_bytes(data[at + 20 : at + 22], "little") if at >= 0 else len(data)


def all_of(data: bytes) -> Iterator[Inner]:
    """Every archive in ``data``, one after another.

    Each form is looked for once in each part of ``data``.
    """
    begins, start = dict.fromkeys(_FORMS, -1), 0
    while True:
        for form, at in begins.items():
            if at < start:
                begins[form] = form.begins(data, start, len(data))
        form, at = min(begins.items(), key=lambda one: one[1])
        if at == len(data):
            return
        end = _zip_end(data, at) if form.name == "zip" else len(data)
        yield Inner(at, end, form.name)
        start = end if form.name == "zip" else at + 1


class Noticing(io.RawIOBase):
    """The same bytes, of which ``rest`` is kept, up to ``most`` bytes.

    The rest begins with the first archive in them.
    """

    def __init__(self, inner: io.BufferedIOBase, most: int) -> None:
        self._inner = inner
        self._most = most
        self._window = b""
        self._found = False
        self._kept: list[bytes] = []
        self._size = 0
        self.at = 0

    def readable(self) -> bool:
        """Always, as io asks."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a memoryview is what io hands over
        """Read into ``buffer`` for io, and look for an archive in what comes."""
        data = self._inner.read1(len(buffer))
        buffer[: len(data)] = data
        self._keep(data) if self._found else self._look(data)
        return len(data)

    @property
    def rest(self) -> bytes:
        """The first archive and what comes after it; empty if there is none.

        Raises:
            ValueError: there is more than may be kept.
        """
        if not self._found:
            self._look(b"")
        if self._size > self._most:
            raise ValueError("is too large an archive, with something before it")
        return b"".join(self._kept)

    def _look(self, data: bytes) -> None:
        """Look for the first archive.

        Whether one begins in the last bytes is known once more bytes are there, or once there are no more.
        """
        ended = not data
        data = self._window + data
        end = len(data) if ended else max(len(data) - _TELLING, 0)
        at = end if data.isascii() else first(data, end)  # packed bytes are never all ASCII
        if at < end:
            self._found = True
            self.at += at
            self._window = b""
            self._keep(data[at:])
            return
        self._window = data[end:]
        self.at += end

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._most:
            self._kept.append(data)
        else:
            self._kept.clear()
