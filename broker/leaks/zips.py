"""Zips that a stranger may have made.

Their entries are counted before anything is made of the index, and no byte is read twice.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from broker.leaks.reading import Budget, held

_ENTRY = b"PK\x01\x02"
_LOCAL_LEAST = 30
_ENCRYPTED, _MARKED = 1, 2


class _Index(io.BytesIO):
    """A zip's bytes; while its index is read, it gives no more entries than the budget allows."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._data = data
        self.most: int | None = most

    def read(self, size: int | None = -1, /) -> bytes:
        if self.most is not None:
            end = len(self._data) if size is None or size < 0 else self.tell() + size
            if self._data.count(_ENTRY, self.tell(), end) > self.most:
                raise ValueError("holds too many entries")
        return super().read(size)


@contextmanager
def opened(data: bytes, budget: Budget) -> Iterator[zipfile.ZipFile]:
    """The zip, whose entries spend the budget.

    Entries in the index are counted, whatever number the record at the zip's end says.

    Raises:
        ValueError: there are too many entries.
        zipfile.BadZipFile: this is no zip.
    """
    index = _Index(data, budget.entries)
    with zipfile.ZipFile(index) as unzipped:
        index.most = None
        budget.enter(len(unzipped.infolist()))
        yield unzipped


def members(unzipped: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Every member, in the order in which they lie in the file.

    Raises:
        ValueError: a member begins within another one, as in a bomb; those before it came.
    """
    end = 0
    for member in sorted(unzipped.infolist(), key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise ValueError("has members that overlap")
        end = member.header_offset + _LOCAL_LEAST + member.compress_size
        yield member


def content(data: bytes, unzipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> io.BufferedIOBase:
    """The content of a member of the zip ``data``, unpacked as it is read.

    Raises:
        Exception: it can't be read; the error is any that zipfile knows.
    """
    unpacking = _UNBOUNDED.get(member.compress_type)
    if unpacking is None or member.flag_bits & _ENCRYPTED:
        return cast("io.BufferedIOBase", unzipped.open(member))
    at = member.header_offset
    names = int.from_bytes(data[at + 26 : at + 28], "little")
    extra = int.from_bytes(data[at + 28 : at + 30], "little")
    start = at + _LOCAL_LEAST + names + extra
    return unpacking(memoryview(data)[start : start + member.compress_size], member)


def _bzip2(packed: memoryview, _member: zipfile.ZipInfo) -> io.BufferedIOBase:
    return bz2.BZ2File(held(packed))


def _lzma(packed: memoryview, member: zipfile.ZipInfo) -> io.BufferedIOBase:
    """The member as an LZMA file: its properties, its size unless a mark ends it, and the rest."""
    size = b"\xff" * 8 if member.flag_bits & _MARKED else member.file_size.to_bytes(8, "little")
    alone = bytes(packed[4:9]) + size + bytes(packed[9:])
    return lzma.LZMAFile(io.BytesIO(alone))


# zipfile unpacks all that some packed bytes of these hold at once: 45 bytes of bzip2 may hold 46 MB.
_UNBOUNDED = {zipfile.ZIP_BZIP2: _bzip2, zipfile.ZIP_LZMA: _lzma}
