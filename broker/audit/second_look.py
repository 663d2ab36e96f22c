"""A second look at guards, after something slow.

Those who look share a query (:mod:`broker.base.shared`).  Whoever asks while one is under way waits for the next one.
So an answer is never older than its question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.audit.guards import epochs_now
from broker.base.db import Database
from broker.base.shared import Shared

_TOGETHER = 256
_Ids = frozenset[str]


class SecondLook:
    """The second looks of one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._looking = Shared(self._look, _TOGETHER, "second-look")

    async def epochs(self, ids: Iterable[str]) -> Mapping[str, int]:
        """The epoch of each id, read after this was called; raises what the database raises."""
        return await self._looking.ask(frozenset(ids), again=True)

    async def _look(self, asked: Sequence[_Ids]) -> Mapping[_Ids, Mapping[str, int]]:
        found = await epochs_now(self._db, frozenset[str]().union(*asked))
        return {ids: {id_: found[id_] for id_ in ids} for ids in asked}
