"""Work on much that is due, a lane for each upstream, as fast as each one takes it.

A lane pulls a page of rows, works on a few of them at once, then pulls the next page.  So nothing is held in memory or
read twice, however much waits, and a slow upstream holds up its own lane only.  How many are worked on at once grows
while every row is answered, and falls when one is not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Final, Generic, TypeVar

import structlog

from broker.base.duty import together

_log = structlog.get_logger()

Row = TypeVar("Row")

# So many rows of a lane are worked on at once: to begin with, and at most.
FEW: Final = 5
MOST: Final = 40
# A page has so many rows for each that is worked on at once.
_PAGE: Final = 4
# A lane pulls no more pages after so long: the next turn comes soon, and sees what is due in other lanes.
_TURN_S: Final = 30.0


class Lanes(Generic[Row]):
    """The lanes of one duty; they keep how fast each upstream was.

    Args:
        pull: the first rows of a lane that are due now, so many at most.  Whoever worked on a row has moved its time.
        work: does what is due for a row; False if its upstream gave no answer.  Then the rest of its lane waits.
        name: what tells rows apart.
        turn_s: for how many seconds pages are pulled.
    """

    def __init__(
        self,
        pull: Callable[[str, int], Awaitable[Sequence[Row]]],
        work: Callable[[Row], Awaitable[bool]],
        name: Callable[[Row], Hashable],
        *,
        turn_s: float = _TURN_S,
    ) -> None:
        self._pull, self._work, self._name = pull, work, name
        self._turn_s = turn_s
        self._at_once: dict[str, int] = {}

    async def run(self, lanes: Iterable[str]) -> None:
        """Work in these lanes until nothing is due in them, or the time is over."""
        until = asyncio.get_running_loop().time() + self._turn_s
        await together(*(self._run(lane, until) for lane in lanes))

    async def _run(self, lane: str, until: float) -> None:
        met: set[Hashable] = set()
        while asyncio.get_running_loop().time() < until:
            at_once = self._at_once.get(lane, FEW)
            page = await self._pull(lane, at_once * _PAGE)
            # What is still due after it was worked on waits for the next turn: nothing is asked in a circle.
            fresh = [row for row in page if self._name(row) not in met]
            met.update(map(self._name, fresh))
            if not await self._work_on(fresh, at_once):
                self._at_once[lane] = max(1, at_once // 2)
                return
            if len(fresh) < at_once * _PAGE:
                return
            self._at_once[lane] = min(MOST, at_once * 2)

    async def _work_on(self, rows: Sequence[Row], at_once: int) -> bool:
        """Work on each row; whether every one that was worked on had an answer."""
        waiting, answered = deque(rows), True

        async def next_ones() -> None:
            nonlocal answered
            while waiting:
                try:
                    fine = await self._work(waiting.popleft())
                except Exception as error:  # noqa: BLE001 - a row's own fault; the others' time has come too
                    _log.error("worker.failed", error=type(error).__name__)
                    continue
                if not fine:
                    answered = False
                    waiting.clear()

        await asyncio.gather(*(next_ones() for _ in range(min(len(rows), at_once))))
        return answered
