"""What a Git repository holds: its whole history, and what is about to be committed."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from broker.leaks.sources import Skipped, Source, whole

_SUBMODULE = "160000"


class GitFailed(Exception):
    """Git could not tell; the text says what it said."""


def history(repository: Path, skipped: Skipped) -> Iterator[Source]:
    """Every object: files of every commit, deleted ones too, and commit messages.

    Raises:
        GitFailed: it is not a repository, or git gave up before it had shown everything.
    """
    _git(repository, "rev-parse", "--git-dir")
    paths = _paths(repository, skipped)
    process = subprocess.Popen(  # noqa: S603 - fixed words and a folder, no shell
        ["git", "-C", str(repository), "cat-file", "--batch", "--batch-all-objects", "--unordered"],  # noqa: S607
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        for sha, kind, data in _objects(process.stdout, skipped):
            if kind != "tree":
                where = f"{kind} {sha[:12]}" + (f" {paths[sha]}" if paths.get(sha) else "")
                yield from whole(Source(where, io.BytesIO(data)), skipped)
        if status := process.wait():
            raise GitFailed(f"git ended with {status} before every object was read; `git fsck` may say why.")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


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
    wanted = ("--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=AMT")
    changes = _git(repository, "-c", "diff.relative=false", "diff", *wanted).split(b"\0")
    for change, name in zip(changes[::2], changes[1::2], strict=False):
        _, mode, _, sha, _ = change.decode("ascii").split()
        if mode != _SUBMODULE:  # a commit of another repository
            data = _git(repository, "cat-file", "blob", sha)
            yield from whole(Source(os.fsdecode(name), io.BytesIO(data)), skipped)


def _paths(repository: Path, skipped: Skipped) -> dict[str, str]:
    """Where each file was; only people need that."""
    try:
        listed = _git(repository, "rev-list", "--objects", "--all").decode("utf-8", "replace").splitlines()
    except GitFailed as error:
        skipped(f"the paths in {repository}", str(error))
        return {}
    return {sha: path for sha, _, path in (line.partition(" ") for line in listed) if path}


def _git(repository: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        raise GitFailed("git is not installed; install it, or scan the files alone.") from None
    if done.returncode != 0:
        raise GitFailed(done.stderr.decode("utf-8", "replace").strip()[:300] or "git failed")
    return done.stdout
