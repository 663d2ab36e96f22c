"""Where Git keeps what it knows of a folder, found without asking git.

Git reads the configuration that it finds, and goes wherever a file ``.git`` or ``commondir`` points.  Here such a
pointer is followed only if its target is in the same folder, or if the target says itself that it belongs to the folder
(a further work tree and a submodule do).  Whoever scans has to name anything else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A file of Git's that holds an id, a name or a path is no larger.
_LINE_MAX = 8_192
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SYMBOLIC_DEEPEST = 5


class GitFailed(Exception):
    """Git's files could not be read, or git failed; the text says why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Git's folder of one work tree (``own``), that of all (``common``), and what they hold."""

    own: Path
    common: Path
    index: Path
    objects: tuple[Path, ...]

    def head(self) -> str | None:
        """The id of the commit that is checked out.

        It is None if there is none yet, or if no text file tells it.
        """
        name = "HEAD"
        for _ in range(_SYMBOLIC_DEEPEST):
            said = line(self.own / name) or line(self.common / name)
            if said is None:
                return self._packed(name)
            if _ID.fullmatch(said):
                return said
            kind, _, name = said.partition(": ")
            if kind != "ref" or not name.startswith("refs/") or ".." in name:
                return None
        return None

    def _packed(self, name: str) -> str | None:
        packed = self.common / "packed-refs"
        if is_own(packed):
            with packed.open(encoding="utf-8", errors="replace") as lines:
                for said in lines:
                    sha, _, named = said.rstrip("\n").partition(" ")
                    if named == name and _ID.fullmatch(sha):
                        return sha
        return None


def is_own(path: Path) -> bool:
    """Whether this is a file itself: no link, and no pipe, which one could wait at for ever."""
    return path.is_file() and not path.is_symlink()


def line(path: Path) -> str | None:
    """The one line of a file of Git's; None if it is no such file."""
    if not is_own(path):
        return None
    with path.open("rb") as stream:
        return os.fsdecode(stream.read(_LINE_MAX)).rstrip("\n")


def find(path: Path) -> Kept:
    """Where Git keeps what it knows of ``path``, a folder in a work tree or a repository itself.

    Git tells its hooks some places by their environment (``GIT_DIR``, ``GIT_INDEX_FILE``, object folders).  That counts
    only for the repository of the current folder.

    Raises:
        GitFailed: there is no repository, or it is elsewhere.
    """
    here = Path.cwd()
    own = _own(path.resolve(), here)
    common = _common(own)
    index, objects = own / "index", [common / "objects"]
    if _is_of(own, here):
        index = here / os.environ.get("GIT_INDEX_FILE", index)
        objects += [here / folder for folder in _named_objects()]
    return Kept(own, common, index, tuple(objects))


def _named_objects() -> Iterator[str]:
    for name in ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"):
        yield from filter(None, os.environ.get(name, "").split(os.pathsep))


def _is_of(own: Path, here: Path) -> bool:
    try:
        return _own(here, here) == own
    except GitFailed:
        return False


def _own(path: Path, here: Path) -> Path:
    if path == here and (named := os.environ.get("GIT_DIR")):
        return (here / named).resolve()
    for folder in (path, *path.parents):
        marker = folder / ".git"
        if marker.is_symlink() or marker.is_file():
            return _pointed(marker)
        if _keeps(marker):
            return marker
        if _keeps(folder):
            return folder
    raise GitFailed(f"{path} is not in a Git repository")


def _keeps(folder: Path) -> bool:
    """Whether this is a folder of Git's own, by what is in it."""
    if not is_own(folder / "HEAD") and not (folder / "HEAD").is_symlink():
        return False
    return is_own(folder / "commondir") or ((folder / "objects").is_dir() and (folder / "refs").is_dir())


def _pointed(marker: Path) -> Path:
    """The folder that a file ``.git`` points to, if it belongs to the file's folder."""
    kind, _, said = (line(marker) or "").partition(": ")
    target = marker.resolve() if marker.is_symlink() else (marker.parent / said).resolve()
    if not marker.is_symlink() and (kind != "gitdir" or not _keeps(target)):
        raise GitFailed(f"{marker} leads to no repository")
    if marker.is_symlink() or not _belongs(target, marker):
        raise GitFailed(f"{marker} leads to {target}, which is elsewhere; scan that, or name it in GIT_DIR")
    return target


def _belongs(own: Path, marker: Path) -> bool:
    if own.is_relative_to(marker.parent):
        return True
    if own.parent.name == "worktrees" and (back := line(own / "gitdir")) is not None:
        return (own / back).resolve() == marker
    try:
        outer = _own(marker.parent.parent, marker)  # the environment isn't about the outer repository
        return any(own.is_relative_to(kept / "modules") for kept in (outer, _common(outer)))
    except GitFailed:
        return False


def _common(own: Path) -> Path:
    """The folder that all work trees share; this one's own folder is in it."""
    said = line(own / "commondir")
    if said is None:
        return own
    common = (own / said).resolve()
    if own.parent != common / "worktrees":
        raise GitFailed(f"{own}/commondir leads to {common}, which is elsewhere; scan that")
    return common
