"""Where keys may lie: files and folders, and archives in them.

What a stranger packed can't hurt: links are not followed, and of an archive only so much is unpacked, so deep.  What
could not be read is told, and what can be read beside it is.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from broker.leaks.reading import Budget, Patient, counted, looked_at, narrowed

_DEEPEST = 4
_UNPACKED_MAX = 512 * 1024**2
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
UNREADABLE = (
    OSError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
# Is told what could not be read, and why.
Skipped = Callable[[str, str], None]


class Source(NamedTuple):
    """Something to scan: how a person finds it, and its bytes."""

    where: str
    stream: io.BufferedIOBase


def files(path: Path, skipped: Skipped) -> Iterator[Source]:
    """A file, or everything in a folder, archives unpacked."""
    if not path.is_dir():
        yield from _file(path, skipped)
        return

    def unreadable(error: OSError) -> None:
        skipped(str(error.filename or path), said(error))

    for folder, names, found in os.walk(path, onerror=unreadable):  # follows no links to folders
        names[:] = sorted(name for name in names if name != ".git")
        for name in sorted(found):
            inner = Path(folder) / name
            if _is_regular(inner, skipped):
                yield from _file(inner, skipped)


def _is_regular(path: Path, skipped: Skipped) -> bool:
    """Whether this is a file itself: no link, no pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError as error:
        skipped(str(path), said(error))
        return False


def _file(path: Path, skipped: Skipped) -> Iterator[Source]:
    try:
        with path.open("rb") as stream:
            yield from whole(Source(str(path), stream), skipped)
    except UNREADABLE as error:
        skipped(str(path), said(error))


def whole(source: Source, skipped: Skipped) -> Iterator[Source]:
    """The source itself, or what it holds where it is an archive."""
    yield from _unpacked(source, Budget(_UNPACKED_MAX), skipped, 0)


def _unpacked(source: Source, budget: Budget, skipped: Skipped, depth: int) -> Iterator[Source]:
    head, stream = looked_at(source.stream)
    form = next((form for magic, form in _MAGIC if head.startswith(magic)), None)
    if form is None and head[257:262] == b"ustar":
        form = "tar"
    if form is None:
        yield Source(source.where, narrowed(head, stream))
        return
    if depth >= _DEEPEST:
        skipped(source.where, f"is packed more than {_DEEPEST} deep")
        return
    try:
        yield from _members(Source(source.where, stream), form, budget, skipped, depth + 1)
    except UNREADABLE as error:
        skipped(source.where, said(error))


def _members(archive: Source, form: str, budget: Budget, skipped: Skipped, depth: int) -> Iterator[Source]:
    where, stream = archive
    if form == "zip":
        yield from _zipped(archive, budget, skipped, depth)
        return
    if form == "tar":
        with tarfile.open(fileobj=cast("IO[bytes]", Patient(stream)), mode="r|") as tar:
            for entry in tar:
                if (member := tar.extractfile(entry) if entry.isfile() else None) is not None:
                    inner = Source(f"{where}!{entry.name}", counted(cast("io.BufferedIOBase", member), budget))
                    yield from _unpacked(inner, budget, skipped, depth)
        return
    with _decompressed(form, stream) as plain:
        yield from _unpacked(Source(where, counted(plain, budget)), budget, skipped, depth)


def _zipped(archive: Source, budget: Budget, skipped: Skipped, depth: int) -> Iterator[Source]:
    """A member that can't be read, as one with a password can't, doesn't hide those after it."""
    with zipfile.ZipFile(io.BytesIO(_all_of(archive.stream, budget))) as unzipped:
        for member in unzipped.infolist():
            if member.is_dir():
                continue
            budget.take(0)
            where = f"{archive.where}!{member.filename}"
            try:
                with unzipped.open(member) as inner:
                    yield from _unpacked(
                        Source(where, counted(cast("io.BufferedIOBase", inner), budget)), budget, skipped, depth
                    )
            except UNREADABLE as error:
                skipped(where, said(error))


def _decompressed(form: str, stream: io.BufferedIOBase) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    packed = cast("io.BufferedReader", stream)
    if form == "gzip":
        return gzip.GzipFile(fileobj=packed)
    return bz2.BZ2File(packed) if form == "bzip2" else lzma.LZMAFile(packed)


def _all_of(stream: io.BufferedIOBase, budget: Budget) -> bytes:
    """A zip's index is at its end, so all of it is needed."""
    data = stream.read(budget.left + 1)
    if len(data) > budget.left:
        raise ValueError("is too large an archive")
    return data


def said(error: BaseException) -> str:
    """Why something could not be read, for people."""
    return str(error) if isinstance(error, (ValueError, NotImplementedError, RuntimeError)) else type(error).__name__
