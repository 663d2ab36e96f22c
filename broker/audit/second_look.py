"""A second look at guards, after something slow.

As events share a commit, those who look share a query.  Whoever asks while a query is under way waits for the next one.
So an answer is never older than its question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from broker.audit.guards import epochs_now
from broker.base.db import Database


class _Look:
    """One query: what it asks for, and its answer."""

    __slots__ = ("answer", "ids")

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.answer: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()


class SecondLook:
    """The second looks of one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._next: _Look | None = None
        self._looking: asyncio.Task[None] | None = None

    async def epochs(self, ids: Iterable[str]) -> dict[str, int]:
        """The epoch of each id, read after this was called; raises what the database raises."""
        if self._next is None:
            self._next = _Look()
        look = self._next
        wanted = set(ids)
        look.ids |= wanted
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="second-look")
        # The query is everybody's: one caller who gives up ends it for nobody else.
        found = await asyncio.shield(look.answer)
        return {id_: found[id_] for id_ in wanted}

    async def _look(self) -> None:
        try:
            while look := self._next:
                self._next = None
                try:
                    found = await epochs_now(self._db, look.ids)
                except Exception as error:  # noqa: BLE001 - whoever asked is told
                    look.answer.set_exception(error)
                    look.answer.exception()  # they may all have gone away
                else:
                    look.answer.set_result(found)
        finally:
            self._looking = None
