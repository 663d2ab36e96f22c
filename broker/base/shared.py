"""Those who look something up share a query, as events share a commit.

Whatever is asked for while a query is under way is asked for together by the next one.  There is no fixed wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from itertools import islice
from typing import Generic, TypeVar

from broker.base.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")


class Shared(Generic[K, V]):
    """One query at a time for all who ask.

    Args:
        answer: the query: the value of each of some keys, ``limit`` at most.
        limit: how many keys one query is for.
        name: what the task of the queries is called.
    """

    def __init__(self, answer: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], limit: int, name: str) -> None:
        self._answer = answer
        self._limit = limit
        self._name = name
        self._next: dict[K, asyncio.Future[V]] = {}
        self._under_way: dict[K, asyncio.Future[V]] = {}
        self._task: asyncio.Task[None] | None = None

    async def ask(self, key: K, *, again: bool = False) -> V:
        """The value of this key; raises what its query raises.

        Args:
            again: a query that is under way may have read before what this caller knows of, so the next one answers.
        """
        asked = None if again else self._under_way.get(key)
        asked = asked or self._next.get(key)
        if asked is None:
            asked = self._next[key] = asyncio.get_running_loop().create_future()
            if self._task is None:
                # It goes on for others: what it logs is not of the request that happened to begin it.
                self._task = asyncio.create_task(self._work(), name=self._name, context=Context())
        # The query is everybody's: one caller who gives up ends it for nobody else.
        return await asyncio.shield(asked)

    async def _work(self) -> None:
        try:
            while self._next:
                self._under_way = {key: self._next.pop(key) for key in list(islice(self._next, self._limit))}
                await self._settle(self._under_way)
        finally:
            self._under_way, self._task = {}, None

    async def _settle(self, asked: Mapping[K, asyncio.Future[V]]) -> None:
        """Ask for some keys.

        If one of them can't be asked for, it is by halves, so that this one alone has no answer.
        """
        keys = list(asked)
        try:
            answers = await self._answer(keys)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            if len(keys) > 1 and not isinstance(error, Unavailable):
                for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                    await self._settle({key: asked[key] for key in half})
                return
            for waiting in asked.values():
                waiting.set_exception(error)
                waiting.exception()  # they may all have gone away
            return
        for key, waiting in asked.items():
            waiting.set_result(answers[key])
