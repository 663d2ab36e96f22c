"""One process at a time in a folder: whoever comes second is told, and destroys nothing."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AGAIN_S = 0.02


class InUse(Exception):
    """Another process has the folder."""


@contextmanager
def alone_in(folder: Path, *, patience: float = 0) -> Iterator[None]:
    """Have the folder, which is made if there is none, for as long as the context is open.

    However a process ends, it has the folder no more.

    Args:
        folder: whose it is.
        patience: seconds to wait for whoever has it.

    Raises:
        InUse: another process has it.
        OSError: it can't be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() >= until:
                raise InUse
            time.sleep(_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
