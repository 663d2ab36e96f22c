"""Files that hold secrets: made for their owner alone, and read only if others can't.

All of them have one rule, which is plain enough for the job's side to use it too.  Only the owner may do anything with
such a file; or root owns it and its group may read.  So Kubernetes mounts a secret for a pod with ``fsGroup``, and
systemd a credential.  A link is judged by the file behind it, as Kubernetes links to each version of a secret.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path


class OpenToOthers(Exception):
    """A file of secrets is open to others; the text names it and the fix."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(
            f"{path}: others can read it or write to it (mode {stat.S_IMODE(mode):04o}); run: chmod 600 "
            f"{shlex.quote(str(path))} (a mounted secret is to have mode 0400, or belong to root and have 0440)"
        )


def read(path: Path) -> bytes:
    """What the file holds.

    Raises:
        OSError: it can't be read. OpenToOthers: it is not its owner's alone.
    """
    with path.open("rb") as file:
        _insist(path, os.fstat(file.fileno()))
        return file.read()


def check(path: Path) -> None:
    """Check a file that somebody else reads; raises as :func:`read`."""
    _insist(path, path.stat())


def create(path: Path, content: bytes, *, handed_over: bool = False) -> None:
    """A new file for its owner alone.

    If root makes it and it is ``handed_over``, its folder's owner becomes its owner.

    Raises:
        FileExistsError: there is one already, or a link.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o600)  # whatever the umask took from it
    if handed_over and os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)  # of what was made, never of what somebody puts there
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes, *, handed_over: bool = False) -> None:
    """Such a file in the place of what is there, in one step.

    Its folder is made if there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    create(staged, content, handed_over=handed_over)
    try:
        staged.replace(path)
    except OSError:
        staged.unlink()
        raise


def _insist(path: Path, found: os.stat_result) -> None:
    readers = 0 if found.st_uid else stat.S_IRGRP
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~readers:
        raise OpenToOthers(path, found.st_mode)
