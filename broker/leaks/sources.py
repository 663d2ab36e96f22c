"""Where keys may lie: files and folders, and archives in them.

A stranger's archive can't hurt: links are not followed, and only so much of an archive is unpacked, and only so deep.
If something can't be read, that is noted, and everything beside it is still read.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from broker.leaks import inside, zips
from broker.leaks.reading import Budget, Patient, counted, held, inflated, looked_at

_DEEPEST = 4
_UNPACKED_MAX = 512 * 1024**2
_ENTRIES_MAX = 100_000
# An archive among other bytes counts as so many entries.
_INNER = 10
# Only a tar that is made to take long has more headers for all of its entries.
_TAR_HEADERS_MAX = 100
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
# Files that hold more than can be read here.
_CLOSED: tuple[tuple[bytes, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it"),
    (b"\x28\xb5\x2f\xfd", "is packed by zstd; unpack it"),
    (b"\x1f\x9d", "is packed by compress; unpack it"),
    (b"\x1f\xa0", "is packed by compress; unpack it"),
    (b"\x1f\x1e", "is packed by pack; unpack it"),
    (b"\x04\x22\x4d\x18", "is packed by lz4; unpack it"),
    (b"\x89LZO\x00", "is packed by lzop; unpack it"),
    (b"LZIP", "is packed by lzip; unpack it"),
    (b"Rar!\x1a\x07", "is a RAR archive; unpack it"),
    (b"MSCF\x00\x00\x00\x00", "is a cabinet; unpack it"),
    (b"hsqs", "is a squashfs; unpack it"),
    (b"xar!", "is a xar archive; unpack it"),
    (b"PAR1", "is a Parquet table; export it"),
    (b"PACK\x00\x00\x00", "holds objects of Git; scan the repository with --history"),
    (b"# v2 git bundle\n", "is a Git bundle; clone it, and scan that with --history"),
    (b"# v3 git bundle\n", "is a Git bundle; clone it, and scan that with --history"),
    (LFS_POINTER, "is a pointer of Git LFS; fetch the file itself"),
)
# The folders in which Git and Git LFS keep contents, and the files and folders with messages of commits.
_OBJECTS = frozenset({"objects", "lfs"})
_MESSAGES = frozenset({"logs", "COMMIT_EDITMSG", "MERGE_MSG", "SQUASH_MSG", "TAG_EDITMSG"})
# A shorter name holds no key.
_NAME_LEAST = 16
_SUBMODULE = re.compile(r"[ \t]*path[ \t]*=(.+)")
_MODULES_MAX = 1_000_000
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
    ArithmeticError,
    LookupError,
    MemoryError,
    struct.error,
)
# Called with what could not be read, and why.
Skipped = Callable[[str, str], None]


class Source(NamedTuple):
    """Something to scan: where a person finds it, and its bytes."""

    where: str
    stream: io.BufferedIOBase


def files(path: Path, skipped: Skipped, *, kept_by_git: bool = False) -> Iterator[Source]:
    """A file, or everything in a folder; names as well.

    Archives are unpacked.  Git's own folder (``.git``) is read without its history.  If ``path`` is that folder itself,
    as ``kept_by_git`` says, all but its objects is read.
    """
    if not path.is_dir():
        yield from named(str(path), path.name)
        yield from _file(path, skipped)
        return

    def unreadable(error: OSError) -> None:
        skipped(str(error.filename or path), said(error))

    for folder, names, found in os.walk(path, onerror=unreadable):  # it follows no links to folders
        if kept_by_git or ".git" in Path(folder).parts:
            _leave_history_out(names, found, _OBJECTS if kept_by_git else _OBJECTS | _MESSAGES)
        names.sort()
        if ".gitmodules" in found:
            _note_submodules(Path(folder), skipped)
        for name in names:
            yield from _folder(Path(folder) / name)
        for name in sorted(found):
            inner = Path(folder) / name
            yield from named(str(inner), name)
            if _is_regular(inner, skipped):
                yield from _file(inner, skipped)
            elif inner.is_symlink():
                yield from _link(inner)


def _leave_history_out(folders: list[str], found: list[str], history: frozenset[str]) -> None:
    """If a folder is Git's own, by what is in it, take the history out of these lists."""
    if {"objects", "refs"} <= {*folders} and "HEAD" in found:
        folders[:] = [name for name in folders if name not in history]
        found[:] = [name for name in found if name not in history]


def named(where: str, name: str) -> Iterator[Source]:
    """The name of something, if it is long enough to hold a key."""
    if len(name) >= _NAME_LEAST:
        yield Source(f"the name of {where}", io.BytesIO(os.fsencode(name)))


def _folder(path: Path) -> Iterator[Source]:
    yield from named(str(path), path.name)
    if path.is_symlink():
        yield from _link(path)


def _link(path: Path) -> Iterator[Source]:
    """The target of a link as a text to scan; the link isn't followed."""
    yield Source(f"where {path} leads", io.BytesIO(os.fsencode(path.readlink())))


def _note_submodules(folder: Path, skipped: Skipped) -> None:
    """Note submodules whose files aren't here."""
    listed = folder / ".gitmodules"
    if listed.is_symlink() or not listed.is_file():
        return
    try:
        with listed.open("rb") as stream:
            modules = stream.read(_MODULES_MAX).decode("utf-8", "replace")
    except OSError:
        return  # this is noted when the file itself is read
    for name in (found[1].strip() for line in modules.split("\n") if (found := _SUBMODULE.match(line))):
        inner = folder / name
        if ".." in inner.parts or not inner.is_relative_to(folder):
            skipped(str(listed), "names a submodule that is elsewhere")
            continue
        try:
            empty = not inner.is_dir() or not any(inner.iterdir())
        except OSError as error:
            skipped(str(inner), said(error))
            continue
        if empty:
            skipped(str(inner), "is a submodule that is not checked out")


def _is_regular(path: Path, skipped: Skipped) -> bool:
    """Whether this is a file itself: no link, and no pipe or the like, which is noted."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        skipped(str(path), said(error))
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        skipped(str(path), "is no file")
    return stat.S_ISREG(mode)


def _file(path: Path, skipped: Skipped) -> Iterator[Source]:
    try:
        with path.open("rb") as stream:
            yield from whole(Source(str(path), stream), skipped)
    except UNREADABLE as error:
        skipped(str(path), said(error))


def whole(source: Source, skipped: Skipped) -> Iterator[Source]:
    """The source itself, or what it holds if it is an archive."""
    yield from _unpacked(source, Budget(_UNPACKED_MAX, _ENTRIES_MAX), skipped, 0)


def _unpacked(source: Source, budget: Budget, skipped: Skipped, depth: int) -> Iterator[Source]:
    head, stream = looked_at(source.stream)
    form = _form(head)
    if form is None:
        for magic, why in _CLOSED:
            if head.startswith(magic):
                skipped(source.where, why)
        yield from _plain(Source(source.where, stream), budget, skipped, depth)
        return
    if depth >= _DEEPEST:
        skipped(source.where, f"is packed more than {_DEEPEST} deep")
        return
    try:
        yield from _members(Source(source.where, stream), form, budget, skipped, depth + 1)
    except UNREADABLE as error:
        skipped(source.where, said(error))


def _form(head: bytes) -> str | None:
    """The kind of archive that begins so; None if it is none."""
    form = next((form for magic, form in _MAGIC if head.startswith(magic)), None)
    if form is None and head[257:262] == b"ustar":
        return "tar"
    # Git keeps a single object in this form. The two bytes alone could as well begin a text.
    if form is None and head[:1] == b"x" and int.from_bytes(head[:2], "big") % 31 == 0 and inside.inflates(head):
        return "zlib"
    return form


def _plain(source: Source, budget: Budget, skipped: Skipped, depth: int) -> Iterator[Source]:
    """A file that is no archive, as it is; then the archives in it."""
    noticing = inside.Noticing(source.stream, budget.left)
    yield Source(source.where, io.BufferedReader(noticing))
    try:
        rest = noticing.rest
    except UNREADABLE as error:
        skipped(source.where, said(error))
        return
    for inner in inside.all_of(rest):
        where = source.where if inner.form == "zip" else f"{source.where}!{noticing.at + inner.at}"
        if depth >= _DEEPEST:
            skipped(where, f"is packed more than {_DEEPEST} deep")
            return
        try:
            budget.enter(_INNER)
        except ValueError as error:
            skipped(where, said(error))
            return
        form = "inner gzip" if inner.form == "gzip" else inner.form
        archive = Source(where, held(memoryview(rest)[inner.at : inner.end]))
        try:
            yield from _members(archive, form, budget, skipped, depth + 1)
        except UNREADABLE as error:
            skipped(where, said(error))


def _members(archive: Source, form: str, budget: Budget, skipped: Skipped, depth: int) -> Iterator[Source]:
    where, stream = archive
    if form == "zip":
        yield from _zipped(archive, budget, skipped, depth)
        return
    if form == "tar":
        with tarfile.open(fileobj=cast("IO[bytes]", Patient(stream)), mode="r|") as tar:
            for entry in tar:
                budget.enter()
                if len(tar.pax_headers) > _TAR_HEADERS_MAX:
                    raise ValueError("has too many headers")
                inner = f"{where}!{entry.name}"
                yield from named(inner, entry.name)
                yield from named(f"where {inner} leads", entry.linkname)
                if (member := tar.extractfile(entry) if entry.isfile() else None) is not None:
                    content = counted(cast("io.BufferedIOBase", member), budget)
                    yield from _unpacked(Source(inner, content), budget, skipped, depth)
        return
    with _decompressed(form, stream) as plain:
        yield from _unpacked(Source(where, counted(plain, budget)), budget, skipped, depth)


def _zipped(archive: Source, budget: Budget, skipped: Skipped, depth: int) -> Iterator[Source]:
    """The members of a zip; one that can't be read (it has a password) hides none after it."""
    data = _all_of(archive.stream, budget)
    with zips.opened(data, budget) as unzipped:
        for member in zips.members(unzipped):
            budget.take(0)
            where = f"{archive.where}!{member.filename}"
            yield from named(where, member.filename)
            if member.is_dir():
                continue
            try:
                with zips.content(data, unzipped, member) as content:
                    yield from _unpacked(Source(where, counted(content, budget)), budget, skipped, depth)
            except UNREADABLE as error:
                skipped(where, said(error))


def _decompressed(form: str, stream: io.BufferedIOBase) -> io.BufferedIOBase:
    packed = cast("io.BufferedReader", stream)
    if form in {"zlib", "inner gzip"}:  # anything may come behind an inner archive
        return inflated(stream, alone=form == "zlib")
    if form == "gzip":
        return cast("io.BufferedIOBase", gzip.GzipFile(fileobj=packed))
    return bz2.BZ2File(packed) if form == "bzip2" else lzma.LZMAFile(packed)


def _all_of(stream: io.BufferedIOBase, budget: Budget) -> bytes:
    """All bytes of a zip: its index is at its end."""
    data = stream.read(budget.left + 1)
    if len(data) > budget.left:
        raise ValueError("is too large an archive")
    return data


def said(error: BaseException) -> str:
    """A text for people: why something could not be read."""
    telling = isinstance(error, (ValueError, NotImplementedError, RuntimeError, zlib.error))
    return str(error) if telling else type(error).__name__
