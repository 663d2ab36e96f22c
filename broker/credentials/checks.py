"""Do what is due at upstreams, for versions or rotations: each as fast as it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic

from sqlalchemy import inspect

from broker.base.lanes import Lanes
from broker.credentials import due
from broker.credentials.due import Row
from broker.parts import Parts


class Checks(Generic[Row]):
    """One kind of check.

    Args:
        parts: what it is made of.
        waiting: the rows that are due now.
        check: checks one, and moves its time; False if the upstream gave no answer.
    """

    def __init__(
        self,
        parts: Parts,
        waiting: Callable[[], Sequence[due.Span[Row]]],
        check: Callable[[Row], Awaitable[bool]],
    ) -> None:
        self._db, self._catalog = parts.db, parts.catalog
        self._waiting: Callable[[], Sequence[due.Span[Row]]] = waiting
        self._lanes: Lanes[Row] = Lanes(self._pull, check, lambda row: inspect(row).identity)

    async def run(self) -> None:
        """Check what is due."""
        await self._lanes.run(await due.providers(self._db, self._catalog, self._waiting()))

    async def _pull(self, provider: str, limit: int) -> list[Row]:
        return await due.first(self._db, self._waiting(), provider, limit)
