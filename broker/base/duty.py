"""Periodic work, in pieces.

A duty is a piece of it.  The rooms declare theirs, and ``broker.worker`` does them in turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

_log = structlog.get_logger()

# So many rows are worked on at once.
_AT_ONCE = 3

Row = TypeVar("Row")
# For metrics: values by their labels.
Counts = Mapping[tuple[str, ...], float]


@dataclass(slots=True, eq=False)
class Duty:
    """A piece of periodic work, done once in ``every`` milliseconds at most.

    ``run`` does it, and returns what it counted if it counts.  ``final`` says that the time, or what the database
    holds, decides there on what can't be undone.
    """

    name: str
    run: Callable[[], Awaitable[Counts | None]]
    every: int = 0
    final: bool = False
    _done_at: int | None = field(default=None, init=False)
    _counted: Counts | None = field(default=None, init=False)

    async def do(self, now: int) -> None:
        """Do it, unless it was done lately; one that failed was done, too."""
        if self._done_at is not None and abs(now - self._done_at) < self.every:
            return
        self._done_at = now
        self._counted = await self.run()

    @property
    def counted(self) -> Counts:
        """What was counted last; nothing while another process counts."""
        return self._counted or {}

    def stand_by(self) -> None:
        """Forget what was counted, as another process counts now.

        When its turn comes again, it counts at once.
        """
        if self._counted is not None:
            self._counted = self._done_at = None


async def together(*work: Awaitable[object]) -> None:
    """Do it all at once; what fails is logged and falls due again."""
    for failure in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(failure, Exception):
            _log.error("worker.failed", error=type(failure).__name__)


async def few_at_once(rows: Sequence[Row], work: Callable[[Row], Awaitable[object]]) -> None:
    """Work on each row, a few at once; one that fails is logged and falls due again."""
    waiting = deque(rows)

    async def next_ones() -> None:
        while waiting:
            await together(work(waiting.popleft()))

    await together(*(next_ones() for _ in range(_AT_ONCE)))
