"""A repository's objects and index, lent to an empty repository of ours.

This is the one place where git is run.  Whoever packed a repository could make git run a command in many ways:
configuration (and what it includes), hooks, attributes, transports.  Every version of git knows more of them.  So git
never sees the scanned repository.  It runs in one that is made for this.  That has our own configuration, no refs, no
hooks and no work tree, and links to the files that hold objects.  Alternates, grafts and replacements stay behind.
Rejected: git in the repository itself with each dangerous setting overridden.  One setting that nobody thought of would
be enough.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from broker.leaks.kept import GitFailed, Kept, is_own
from broker.leaks.sources import Skipped

_CONFIG = """[core]
\trepositoryformatversion = 1
\tbare = true
\tbigFileThreshold = 16m
\tmultiPackIndex = false
[extensions]
\tobjectFormat = {form}
"""
# With an empty configuration the rest of these change nothing, except for a git that has a setting built in.
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_FORMS = frozenset({"sha1", "sha256"})


class Lent:
    """Runs git on the lent objects and index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unset = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        where = {"GIT_DIR": str(folder), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        self._environment = unset | _ENVIRONMENT | where

    @contextmanager
    def running(self, *words: str, given: Path | None = None) -> Iterator[IO[bytes]]:
        """The output of git, which the caller reads to its end; git reads ``given``.

        Raises:
            GitFailed: git is not installed, or did not end well.
        """
        with TemporaryFile() as errors, (given or Path(os.devnull)).open("rb") as read:
            try:
                process = subprocess.Popen(  # noqa: S603 - fixed words and ids, no shell
                    ["git", *words],  # noqa: S607 - whoever scans has it where they have it
                    stdin=read,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd=self.folder,
                    env=self._environment,
                )
            except FileNotFoundError:
                raise GitFailed("git is not installed; install it, or scan the files alone.") from None
            assert process.stdout is not None
            try:
                yield process.stdout
                status = process.wait()
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
            if status:
                errors.seek(0)
                said = errors.read(300).decode("utf-8", "replace").strip()
                raise GitFailed(f"git ended with {status}: {said or 'it did not say why'}")

    def said(self, *words: str, given: Path | None = None) -> bytes:
        """The whole output of git.

        Raises:
            GitFailed: git is not installed, or did not end well.
        """
        with self.running(*words, given=given) as written:
            return written.read()


@contextmanager
def lent(kept: Kept, skipped: Skipped) -> Iterator[Lent]:
    """An empty repository that links to the objects and the index of ``kept``.

    Raises:
        GitFailed: git is not installed.
    """
    with TemporaryDirectory(prefix="keybroker-scan-") as made:
        folder = Path(made).resolve()
        git = Lent(folder)
        (folder / "refs").mkdir()
        (folder / "HEAD").write_text("ref: refs/heads/none\n")
        (folder / "config").write_text(_CONFIG.format(form=_form(git, kept, skipped)))
        (folder / "objects").mkdir()
        for objects in kept.objects:
            _lend_objects(objects, folder / "objects", skipped)
        if is_own(kept.common / "shallow"):
            (folder / "shallow").symlink_to(kept.common / "shallow")
        for shared in kept.own.glob("sharedindex.*"):
            if is_own(shared):
                (folder / shared.name).symlink_to(shared)
        if is_own(kept.index):
            (folder / "index").symlink_to(kept.index)
        elif kept.index.is_symlink() or kept.index.exists():
            skipped(str(kept.index), "is no file of its own")
        yield git


def _form(git: Lent, kept: Kept, skipped: Skipped) -> str:
    """How the repository names objects.

    Nothing else is read from its configuration, and it is read like any text.
    """
    config = kept.common / "config"
    asked = ("--no-includes", "--default", "sha1", "--get", "extensions.objectformat")
    try:
        form = git.said("config", "--file", str(config), *asked).decode().strip() if is_own(config) else "sha1"
    except GitFailed as error:
        skipped(str(config), str(error))
        return "sha1"
    if form not in _FORMS:
        skipped(str(config), "names a form of object ids that is not known here")
        return "sha1"
    return form


def _lend_objects(objects: Path, into: Path, skipped: Skipped) -> None:
    """Link to each file that holds objects, but to nothing that would lead git elsewhere."""
    if objects.is_symlink() or not objects.is_dir():
        skipped(str(objects), "is no folder of its own, so that the objects in it are not read")
        return
    for folder in sorted(objects.iterdir()):
        if folder.name != "pack" and not _is_fan(folder.name):
            continue
        if folder.is_symlink() or not folder.is_dir():
            skipped(str(folder), "is no folder of its own, so that the objects in it are not read")
            continue
        (into / folder.name).mkdir(exist_ok=True)
        for file in folder.iterdir():
            if folder.name == "pack" and file.suffix not in {".pack", ".idx"}:
                continue
            link = into / folder.name / file.name
            if not is_own(file):
                skipped(str(file), "is no file of its own, so that the objects in it are not read")
            elif not link.is_symlink():
                link.symlink_to(file)


def _is_fan(name: str) -> bool:
    """Whether this is one of the 256 folders that Git spreads objects over."""
    return len(name) == 2 and set(name) <= set("0123456789abcdef")
