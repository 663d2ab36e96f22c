"""What a Git repository holds: its whole history, and what is about to be committed."""

from __future__ import annotations

import io
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from broker.leaks.sources import LFS_POINTER, Skipped, Source, files, named, whole

_SUBMODULE = "160000"
_LFS_ID = re.compile(rb"^oid sha256:([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{60})$", re.MULTILINE)


class GitFailed(Exception):
    """Git could not tell; the text says what it said."""


def history(repository: Path, skipped: Skipped) -> Iterator[Source]:
    """Every object: files of every commit, deleted ones too, messages, names; and what Git keeps beside them.

    Raises:
        GitFailed: it is not a repository, or git gave up before it had shown everything.
    """
    kept = _kept(repository)
    _note_what_is_elsewhere(repository, kept, skipped)
    for folder in dict.fromkeys((kept, _kept(repository, "--git-dir"))):  # of a further work tree there are two
        yield from files(folder, skipped, kept_by_git=True)
    # Refs may be in a form that is none of text.
    yield Source("refs", io.BytesIO(_git(repository, "for-each-ref", "--format=%(refname)")))
    paths = _paths(repository, skipped)
    process = subprocess.Popen(  # noqa: S603 - fixed words and a folder, no shell
        [*_command(repository), "cat-file", "--batch", "--batch-all-objects", "--unordered"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        trees = _Trees(skipped)
        for sha, kind, data in _objects(process.stdout, skipped):
            where = f"{kind} {sha[:12]}" + (f" {paths[sha]}" if paths.get(sha) else "")
            if kind == "tree":
                yield from trees.names(where, data, len(sha) // 2)
            else:
                yield from _content(Source(where, io.BytesIO(data)), data, kept, skipped)
        if status := process.wait():
            raise GitFailed(f"git ended with {status} before every object was read; `git fsck` may say why.")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _note_what_is_elsewhere(repository: Path, kept: Path, skipped: Skipped) -> None:
    """Tell what this repository refers to and doesn't hold."""
    where = str(repository)
    if _git(repository, "rev-parse", "--is-shallow-repository").strip() == b"true":
        skipped(where, "is a shallow clone; `git fetch --unshallow` brings the rest of its history")
    if any((kept / "objects" / "pack").glob("*.promisor")):
        skipped(where, "is a partial clone; clone it without --filter")
    for module in sorted((kept / "modules").glob("**/HEAD")):
        if (module.parent / "objects").is_dir():
            skipped(str(module.parent), "is the repository of a submodule; scan it with --history as well")


class _Trees:
    """What folders of all commits hold but contents: names, each once, and other repositories' commits."""

    def __init__(self, skipped: Skipped) -> None:
        self._skipped = skipped
        self._seen: set[bytes] = set()

    def names(self, where: str, data: bytes, size: int) -> Iterator[Source]:
        """The names in a tree, whose ids have ``size`` bytes."""
        at = 0
        while at < len(data):
            end = data.find(b"\0", at)
            if end < 0:
                self._skipped(where, "is damaged")
                return
            entry = data[at:end]
            at = end + 1 + size
            if entry in self._seen:
                continue
            self._seen.add(entry)
            mode, _, name = entry.partition(b" ")
            inner = f"{where}/{os.fsdecode(name)}"
            if mode == _SUBMODULE.encode():
                self._skipped(inner, "is a submodule: another repository, which is to be scanned by itself")
            yield from named(inner, os.fsdecode(name))


def _content(source: Source, data: bytes, kept: Path, skipped: Skipped) -> Iterator[Source]:
    """A file as it is; of a pointer of Git LFS the file itself, where it is here."""
    if data.startswith(LFS_POINTER) and (oid := _LFS_ID.search(data)):
        first, second, rest = (part.decode() for part in oid.groups())
        stored = kept / "lfs" / "objects" / first / second / (first + second + rest)
        if stored.is_file():
            with stored.open("rb") as stream:
                yield from whole(Source(source.where, stream), skipped)
            return
    yield from whole(source, skipped)


def _objects(shown: IO[bytes], skipped: Skipped) -> Iterator[tuple[str, str, bytes]]:
    """Id, kind and content of each, as ``git cat-file --batch`` shows them."""
    while line := shown.readline():
        sha, kind, *size = line.decode("ascii", "replace").split() or ["", ""]
        if not size:
            skipped(f"object {sha[:12]}", kind)
            continue
        data = shown.read(int(size[0]))
        if len(data) < int(size[0]) or not shown.read(1):
            raise GitFailed("git ended in the midst of an object; `git fsck` may say why.")
        yield sha, kind, data


def staged(repository: Path, skipped: Skipped) -> Iterator[Source]:
    """What is about to be committed.

    Raises:
        GitFailed: it is not a repository.
    """
    kept = _kept(repository)
    wanted = ("--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=AMT")
    changes = _git(repository, "-c", "diff.relative=false", "diff", *wanted).split(b"\0")
    for change, name in zip(changes[::2], changes[1::2], strict=False):
        _, mode, _, sha, _ = change.decode("ascii").split()
        where = os.fsdecode(name)
        yield from named(where, where)
        if mode != _SUBMODULE:  # of which a commit's id alone is committed
            data = _git(repository, "cat-file", "blob", sha)
            yield from _content(Source(where, io.BytesIO(data)), data, kept, skipped)


def _paths(repository: Path, skipped: Skipped) -> dict[str, str]:
    """Where each file was; only people need that."""
    try:
        listed = _git(repository, "rev-list", "--objects", "--all").decode("utf-8", "replace").splitlines()
    except GitFailed as error:
        skipped(f"the paths in {repository}", str(error))
        return {}
    return {sha: path for sha, _, path in (line.partition(" ") for line in listed) if path}


def _kept(repository: Path, which: str = "--git-common-dir") -> Path:
    """Where Git keeps what it knows of the repository."""
    return (repository / os.fsdecode(_git(repository, "rev-parse", which).rstrip(b"\n"))).resolve()


def _command(repository: Path) -> list[str]:
    """How Git is called: on what is there, not on what takes its place (``git replace``)."""
    return ["git", "-C", str(repository), "--no-replace-objects"]


def _git(repository: Path, *words: str) -> bytes:
    try:
        done = subprocess.run([*_command(repository), *words], capture_output=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise GitFailed("git is not installed; install it, or scan the files alone.") from None
    if done.returncode != 0:
        raise GitFailed(done.stderr.decode("utf-8", "replace").strip()[:300] or "git failed")
    return done.stdout
