"""When something has to have come: one timer a connection.

The timer is moved only if something has to come sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """A time by which something has to come; ``overdue`` is called once it has passed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, overdue: Callable[[], None]) -> None:
        self._loop = loop
        self._overdue = overdue
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """Expect something within ``seconds``, in place of what was expected."""
        self._due = due = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)

    def lift(self) -> None:
        """Expect nothing for now."""
        self._due = None

    def end(self) -> None:
        """Expect nothing any more."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
            return
        self._due = None
        self._overdue()
