"""Where keys may lie: files and folders, archives in them, a repository's whole history, what is about to be committed.

What a stranger packed can't hurt: links are not followed, and of an archive only so much is unpacked, so deep.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

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


class Source(NamedTuple):
    """Something to scan: how a person finds it, and its bytes."""

    where: str
    stream: BinaryIO


class GitFailed(Exception):
    """Git could not tell; the text says what it said."""


class Budget:
    """How much may still be unpacked of one file; raises ValueError once it is more."""

    def __init__(self) -> None:
        self.left = _UNPACKED_MAX

    def take(self, count: int) -> None:
        """Note that so many bytes were unpacked."""
        self.left -= count
        if self.left < 0:
            raise ValueError("unpacks to too much")


class _Counted(io.RawIOBase):
    """An unpacked stream that spends a budget."""

    def __init__(self, inner: BinaryIO, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a memoryview is what io hands over
        data = self._inner.read(len(buffer))
        self._budget.take(len(data))
        buffer[: len(data)] = data
        return len(data)


def files(path: Path, skipped: Callable[[str, str], None]) -> Iterator[Source]:
    """A file, or everything in a folder, archives unpacked; ``skipped`` is told what could not be read, and why."""
    if path.is_file():
        yield from _file(path, str(path), skipped)
        return
    for folder, names, found in os.walk(path):  # follows no links to folders
        names[:] = sorted(name for name in names if name != ".git")
        for name in sorted(found):
            inner = Path(folder) / name
            if inner.is_file() and not inner.is_symlink():
                yield from _file(inner, str(inner), skipped)


def _file(path: Path, where: str, skipped: Callable[[str, str], None]) -> Iterator[Source]:
    try:
        with path.open("rb") as stream:
            yield from unpacked(Source(where, stream), Budget(), skipped)
    except UNREADABLE as error:
        skipped(where, said(error))


def unpacked(source: Source, budget: Budget, skipped: Callable[[str, str], None], depth: int = 0) -> Iterator[Source]:
    """The source itself, and what it holds where it is an archive."""
    head = source.stream.read(512)
    rest = _Rejoined(head, source.stream)
    form = next((form for magic, form in _MAGIC if head.startswith(magic)), None)
    if form is None and head[257:262] == b"ustar":
        form = "tar"
    if form is None or depth >= _DEEPEST:
        yield Source(source.where, cast("BinaryIO", io.BufferedReader(rest)))
        return
    try:
        yield from _members(source.where, form, cast("BinaryIO", io.BufferedReader(rest)), budget, skipped, depth)
    except UNREADABLE as error:
        skipped(source.where, said(error))


def _members(
    where: str, form: str, stream: BinaryIO, budget: Budget, skipped: Callable[[str, str], None], depth: int
) -> Iterator[Source]:
    if form == "zip":
        with zipfile.ZipFile(io.BytesIO(_whole(stream, budget))) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    with archive.open(member) as inner:
                        yield from _inner(f"{where}!{member.filename}", inner, budget, skipped, depth)
        return
    if form == "tar":
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for entry in tar:
                if (extracted := tar.extractfile(entry) if entry.isfile() else None) is not None:
                    yield from _inner(f"{where}!{entry.name}", extracted, budget, skipped, depth)
        return
    with _decompressed(form, stream) as inner:
        yield from _inner(where, cast("BinaryIO", inner), budget, skipped, depth)


def _decompressed(form: str, stream: BinaryIO) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if form == "gzip":
        return gzip.GzipFile(fileobj=stream)
    return bz2.BZ2File(stream) if form == "bzip2" else lzma.LZMAFile(stream)


def _inner(
    where: str, stream: object, budget: Budget, skipped: Callable[[str, str], None], depth: int
) -> Iterator[Source]:
    counted = _Counted(cast("BinaryIO", stream), budget)
    yield from unpacked(Source(where, cast("BinaryIO", io.BufferedReader(counted))), budget, skipped, depth + 1)


def _whole(stream: BinaryIO, budget: Budget) -> bytes:
    """A zip's index is at its end, so all of it is needed."""
    data = stream.read(budget.left + 1)
    if len(data) > budget.left:
        raise ValueError("is too large an archive")
    return data


class _Rejoined(io.RawIOBase):
    """A stream whose beginning was looked at already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a memoryview is what io hands over
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def history(repository: Path, skipped: Callable[[str, str], None]) -> Iterator[Source]:
    """Every object of a Git repository: files of every commit, deleted ones too, and commit messages.

    Raises:
        GitFailed: it is not a repository.
    """
    paths = _paths(repository)
    process = subprocess.Popen(  # noqa: S603 - fixed words and a folder, no shell
        ["git", "-C", str(repository), "cat-file", "--batch", "--batch-all-objects", "--unordered"],  # noqa: S607
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        while line := process.stdout.readline():
            sha, kind, size = line.decode("ascii").split()
            data = process.stdout.read(int(size))
            process.stdout.read(1)
            if kind == "tree":
                continue
            where = f"{kind} {sha[:12]}" + (f" {paths[sha]}" if paths.get(sha) else "")
            yield from unpacked(Source(where, io.BytesIO(data)), Budget(), skipped)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def staged(repository: Path, skipped: Callable[[str, str], None]) -> Iterator[Source]:
    """What is about to be committed.

    Raises:
        GitFailed: it is not a repository.
    """
    names = _git(repository, "diff", "--cached", "--name-only", "-z", "--diff-filter=ACMR")
    for name in filter(None, names.split(b"\0")):
        path = os.fsdecode(name)
        data = _git(repository, "show", f":{path}")
        yield from unpacked(Source(path, io.BytesIO(data)), Budget(), skipped)


def _paths(repository: Path) -> dict[str, str]:
    listed = _git(repository, "rev-list", "--objects", "--all").decode("utf-8", "replace").splitlines()
    return {sha: path for sha, _, path in (line.partition(" ") for line in listed) if path}


def _git(repository: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        raise GitFailed("git is not installed; install it, or scan the files alone.") from None
    if done.returncode != 0:
        raise GitFailed(done.stderr.decode("utf-8", "replace").strip()[:300] or "git failed")
    return done.stdout


def said(error: BaseException) -> str:
    """Why something could not be read, for people."""
    return str(error) if isinstance(error, ValueError) else type(error).__name__
