"""Zips that a stranger may have made: counted before anything is made of their index, and no byte is read twice."""

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
    """A zip's bytes; while its index is read, not more entries of it than may still be."""

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

    Whatever the record at its end says of their number: what is counted is what the index holds.

    Raises:
        ValueError: there are too many of them.
        zipfile.BadZipFile: it is none.
    """
    index = _Index(data, budget.entries)
    with zipfile.ZipFile(index) as unzipped:
        index.most = None
        budget.enter(len(unzipped.infolist()))
        yield unzipped


def members(unzipped: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Every member, as they lie in the file.

    Raises:
        ValueError: one begins within another one, as those of a bomb do; those before it came.
    """
    end = 0
    for member in sorted(unzipped.infolist(), key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise ValueError("has members that overlap")
        end = member.header_offset + _LOCAL_LEAST + member.compress_size
        yield member


def content(data: bytes, unzipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> io.BufferedIOBase:
    """What a member of the zip that ``data`` is holds, unpacked as it is read.

    Raises:
        Exception: it can't be read; of any kind that zipfile knows.
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
    """As a file of its own: its properties, its size unless a mark ends it, and the rest."""
    size = b"\xff" * 8 if member.flag_bits & _MARKED else member.file_size.to_bytes(8, "little")
    alone = bytes(packed[4:9]) + size + bytes(packed[9:])
    return lzma.LZMAFile(io.BytesIO(alone))


# Of these zipfile unpacks all at once that some packed bytes hold: 45 of bzip2 may hold 46 MB.
_UNBOUNDED = {zipfile.ZIP_BZIP2: _bzip2, zipfile.ZIP_LZMA: _lzma}
