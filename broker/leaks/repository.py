"""The contents of a Git repository: its whole history, and what is about to be committed."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from broker.leaks.kept import GitFailed, Kept, find, is_own
from broker.leaks.lent import Lent, lent
from broker.leaks.reading import Part
from broker.leaks.sources import LFS_POINTER, Skipped, Source, files, named, whole

_SUBMODULE = "160000"
_LFS_ID = re.compile(rb"^oid sha256:([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{60})$", re.MULTILINE)
_LFS_POINTER_MAX = 1_024
# A larger object may be a bomb, of which Git keeps few bytes. Git takes as much memory as it unpacks to.
_OBJECT_MAX = 512 * 1024**2
# So many names are remembered, so that each is looked at once.
_NAMES_MAX = 1_000_000


def history(repository: Path, skipped: Skipped) -> Iterator[Source]:
    """Every object, and what Git keeps beside them.

    Objects are the files of every commit, also deleted ones, and messages and names.

    Raises:
        GitFailed: this is no repository, or git gave up before it had shown everything.
    """
    kept = find(repository)
    _note_what_is_elsewhere(repository, kept, skipped)
    for folder in dict.fromkeys((kept.common, kept.own)):  # a further work tree has two
        yield from files(folder, skipped, kept_by_git=True)
    with lent(kept, skipped) as git:
        wanted, commits = git.folder / "wanted", git.folder / "commits"
        _list(git, wanted, commits, skipped)
        paths = _paths(git, repository, commits, skipped)
        trees = _Trees(skipped)
        with git.running("cat-file", "--batch", "--buffer", given=wanted) as shown:
            for sha, kind, part in _objects(shown, skipped):
                where = f"{kind} {sha[:12]}" + (f" {paths[sha]}" if paths.get(sha) else "")
                if kind == "tree":
                    yield from trees.names(where, part.read(), len(sha) // 2)
                else:
                    yield from _content(where, part, kept.common, skipped)


def _list(git: Lent, wanted: Path, commits: Path, skipped: Skipped) -> None:
    """Write down the ids of all objects, and those of commits.

    An object that is too large is left out and noted.
    """
    check = ("cat-file", "--batch-check", "--batch-all-objects", "--unordered", "--buffer")
    with wanted.open("wb") as every, commits.open("wb") as some, git.running(*check) as listed:
        for line in listed:
            sha, _, said = line.decode("ascii", "replace").rstrip("\n").partition(" ")
            kind, _, size = said.partition(" ")
            if not size.isdecimal():
                skipped(f"object {sha[:12]}", said)
            elif int(size) > _OBJECT_MAX:
                skipped(f"{kind} {sha[:12]}", "unpacks to too much")
            else:
                every.write(sha.encode() + b"\n")
                some.write(sha.encode() + b"\n" if kind == "commit" else b"")


def _note_what_is_elsewhere(repository: Path, kept: Kept, skipped: Skipped) -> None:
    """Note what this repository refers to but doesn't hold."""
    where, common = str(repository), kept.common
    if (common / "shallow").is_file():
        skipped(where, "is a shallow clone; `git fetch --unshallow` brings the rest of its history")
    if any((common / "objects" / "pack").glob("*.promisor")):
        skipped(where, "is a partial clone; clone it without --filter")
    if (common / "reftable").is_dir():
        skipped(where, "keeps its refs in tables, whose names are not read")
    _note_alternates(kept, skipped)
    for module in sorted((common / "modules").glob("**/HEAD")):
        if (module.parent / "objects").is_dir():
            skipped(str(module.parent), "is the repository of a submodule; scan it with --history as well")


def _note_alternates(kept: Kept, skipped: Skipped) -> None:
    """Note objects of other repositories, unless the environment names their folders."""
    if len(kept.objects) > 1:
        return
    for name in ("alternates", "http-alternates"):
        borrowed = kept.common / "objects" / "info" / name
        if borrowed.exists() or borrowed.is_symlink():
            skipped(
                str(borrowed),
                "names objects of other repositories, which are not read; "
                "scan those, or name their folders in GIT_ALTERNATE_OBJECT_DIRECTORIES",
            )


class _Trees:
    """Reads the folders of all commits: each name once, and commits of other repositories."""

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
            if len(self._seen) >= _NAMES_MAX:
                self._seen.clear()
            self._seen.add(entry)
            mode, _, name = entry.partition(b" ")
            inner = f"{where}/{os.fsdecode(name)}"
            if mode == _SUBMODULE.encode():
                self._skipped(inner, "is a submodule: another repository, which is to be scanned by itself")
            yield from named(inner, os.fsdecode(name))


def _content(where: str, part: Part, kept: Path, skipped: Skipped) -> Iterator[Source]:
    """A file as it is; if it is a pointer of Git LFS, the file itself if that is here."""
    stream: io.BufferedIOBase = io.BufferedReader(part)
    if part.left <= _LFS_POINTER_MAX:
        data = stream.read()
        if data.startswith(LFS_POINTER) and (oid := _LFS_ID.search(data)):
            first, second, rest = (one.decode() for one in oid.groups())
            stored = kept / "lfs" / "objects" / first / second / (first + second + rest)
            if is_own(stored) and stored.resolve() == stored:
                with stored.open("rb") as file:
                    yield from whole(Source(where, file), skipped)
                return
        stream = io.BytesIO(data)
    yield from whole(Source(where, stream), skipped)


def _objects(shown: IO[bytes], skipped: Skipped) -> Iterator[tuple[str, str, Part]]:
    """The id, kind and content of each object, as ``git cat-file --batch`` shows them."""
    while line := shown.readline():
        sha, kind, *size = line.decode("ascii", "replace").split() or ["", ""]
        if not size:
            skipped(f"object {sha[:12]}", kind)
            continue
        part = Part(shown, int(size[0]))
        yield sha, kind, part
        part.leave()
        if part.left or not shown.read(1):
            raise GitFailed("git ended in the midst of an object; `git fsck` may say why.")


def staged(repository: Path, skipped: Skipped) -> Iterator[Source]:
    """The files that are about to be committed.

    Raises:
        GitFailed: this is no repository.
    """
    kept = find(repository)
    _note_alternates(kept, skipped)
    with lent(kept, skipped) as git:
        changes = _changes(git, kept)
        places: dict[str, list[str]] = {}
        for name, sha in reversed(changes):
            places.setdefault(sha, []).append(name)
        for name, _ in changes:
            yield from named(name, name)
        wanted = git.folder / "wanted"
        wanted.write_text("".join(f"{sha}\n" for _, sha in changes))
        with git.running("cat-file", "--batch", "--buffer", given=wanted) as shown:
            for sha, _, part in _objects(shown, skipped):
                yield from _content(places[sha].pop(), part, kept.common, skipped)


def _changes(git: Lent, kept: Kept) -> list[tuple[str, str]]:
    """The names and ids of files that are staged and not in the commit that is checked out.

    If that commit's files are elsewhere, or if only Git's own tables name it, nothing is known of it.  Then all staged
    files are new.
    """
    nothing = git.said("hash-object", "-t", "tree", "--stdin").decode().strip()
    wanted = ("--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=AMT")
    safe = ("--no-ext-diff", "--no-textconv")
    try:
        said = git.said("diff", *wanted, *safe, kept.head() or nothing, "--")
    except GitFailed:
        said = git.said("diff", *wanted, *safe, nothing, "--")
    listed = said.split(b"\0")
    changes = []
    for change, name in zip(listed[::2], listed[1::2], strict=False):
        _, mode, _, sha, _ = change.decode("ascii").split()
        if mode != _SUBMODULE:  # only the id of a submodule's commit is committed
            changes.append((os.fsdecode(name), sha))
    return changes


def _paths(git: Lent, repository: Path, commits: Path, skipped: Skipped) -> dict[str, str]:
    """The path of each file; only people need it."""
    try:
        listed = git.said("rev-list", "--objects", "--missing=allow-any", "--stdin", given=commits)
    except GitFailed as error:
        skipped(f"the paths in {repository}", str(error))
        return {}
    told = (line.partition(" ") for line in listed.decode("utf-8", "replace").split("\n"))
    return {sha: path for sha, _, path in told if path}
