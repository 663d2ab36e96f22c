"""Values that belong to one process.

A child of ``fork()`` has its parent's memory, and nothing else of it (fork(2), POSIX).  Threads are gone in the child.
Locks that they held stay locked for good.  Sockets are shared with the parent.  A lease that the child gives back is
the parent's.  So each process makes what relies on these for itself, when it first needs it, and leaves what came from
the parent as it is.  That counts for every way to fork that Python knows: ``os.fork``, multiprocessing, servers that
load a program and then fork their workers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

# This object stands for this process. A process id can't: it may be given again.
_this_process = object()


def _born() -> None:
    global _this_process  # noqa: PLW0603 - one process, one mark
    _this_process = object()


if hasattr(os, "register_at_fork"):  # a system without fork has nothing to do after one
    os.register_at_fork(after_in_child=_born)


@dataclass(slots=True)
class _Slot(Generic[T]):
    """The value of one process."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: T | None = None


class PerProcess(Generic[T]):
    """A value that every process makes for itself; threads share it."""

    def __init__(self, make: Callable[[], T]) -> None:
        """``make`` is called once in each process that needs the value, and again if it raised."""
        self._make = make
        # A parent's slot stays in here: if the child freed it, it would close what the parent uses.
        self._slots: dict[object, _Slot[T]] = {}

    def __call__(self) -> T:
        """This process's value; if there is none yet, it is made.  Raises as ``make``."""
        slot = self._slots.get(_this_process) or self._slots.setdefault(_this_process, _Slot())  # atomic
        if slot.made is None:
            with slot.lock:
                if slot.made is None:
                    slot.made = self._make()
        return slot.made

    @property
    def made(self) -> T | None:
        """This process's value; None if it made none."""
        slot = self._slots.get(_this_process)
        return slot.made if slot else None
