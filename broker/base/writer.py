"""SQLite's one writer: who may write next.

SQLite would let whoever polls at the right moment go first.  Here the record goes before everybody who waits, as every
use waits for it.  However many ask for something else, the record waits for one transaction at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Writer:
    """One turn after the other.  The others' turn comes whenever the record isn't waiting."""

    def __init__(self) -> None:
        self._taken = False
        self._record: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, record: bool = False) -> AsyncIterator[None]:
        """Be the one who writes; ``record`` goes before all others who wait."""
        await self._take(self._record if record else self._others)
        try:
            yield
        finally:
            self._pass_on()

    def waiting(self, *, record: bool) -> int:
        """How many wait for a turn, of the record or of the others."""
        return len(self._record if record else self._others)

    async def _take(self, queue: deque[asyncio.Future[None]]) -> None:
        if not self._taken:
            self._taken = True
            return
        waiting = asyncio.get_running_loop().create_future()
        queue.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():  # its turn had just come
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        for queue in (self._record, self._others):
            while queue:
                waiting = queue.popleft()
                if not waiting.done():
                    waiting.set_result(None)
                    return
        self._taken = False
