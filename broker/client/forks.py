"""What belongs to one process.  A child of ``fork()`` has its parent's memory, and nothing else of it.

Threads are gone in the child, locks that they held stay locked for good, sockets are shared with the parent, and a
lease that the child gives back is the parent's (fork(2), POSIX).  So what relies on these is made by each process for
itself, when it first needs it; what came from the parent is left as it is.  Every way to fork that Python knows of
counts: ``os.fork``, multiprocessing, servers that load a program and then fork their workers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

# Stands for this process.  A process id doesn't: it may be given again.
_this_process = object()


def _born() -> None:
    global _this_process  # noqa: PLW0603 - one process, one mark
    _this_process = object()


if hasattr(os, "register_at_fork"):  # where there is no fork, there is none to survive
    os.register_at_fork(after_in_child=_born)


@dataclass(slots=True)
class _Slot(Generic[T]):
    """One process's own."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: T | None = None


class PerProcess(Generic[T]):
    """Something that every process makes for itself.  Threads may share it."""

    def __init__(self, make: Callable[[], T]) -> None:
        """``make`` is called once in each process that needs it; again if it raised."""
        self._make = make
        # A parent's slot stays in here: freeing it in the child would close what the parent uses.
        self._slots: dict[object, _Slot[T]] = {}

    def __call__(self) -> T:
        """This process's own, made where there is none yet; raises as ``make``."""
        slot = self._slots.get(_this_process) or self._slots.setdefault(_this_process, _Slot())  # atomic
        if slot.made is None:
            with slot.lock:
                if slot.made is None:
                    slot.made = self._make()
        return slot.made

    @property
    def made(self) -> T | None:
        """This process's own, None if it made none."""
        slot = self._slots.get(_this_process)
        return slot.made if slot else None
