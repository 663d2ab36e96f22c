"""Those who look something up share a query; an answer is never older than its question, if that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from broker.base.errors import Unavailable
from broker.base.shared import Shared


class _Queries:
    """Queries that answer with their own number once they are let go; those for 13 fail."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.go = asyncio.Event()
        self.away = False

    async def answer(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.asked.append(list(keys))
        number = len(self.asked)
        await self.go.wait()
        if self.away:
            raise Unavailable("away")
        if 13 in keys:
            raise ValueError("thirteen")
        return dict.fromkeys(keys, number)


async def test_everybody_who_asks_while_a_query_is_under_way_shares_the_next() -> None:
    queries = _Queries()
    shared = Shared(queries.answer, 100, "test")
    first = asyncio.create_task(shared.ask(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(shared.ask(key)) for key in (1, 2, 3, 2, 1)]
    await asyncio.sleep(0)
    queries.go.set()
    assert [await first, *await asyncio.gather(*others)] == [1, 2, 2, 2, 2, 2]
    assert queries.asked == [[0], [1, 2, 3]]


async def test_a_query_that_is_under_way_serves_those_who_ask_for_the_same_but_not_again() -> None:
    queries = _Queries()
    shared = Shared(queries.answer, 100, "test")
    first = asyncio.create_task(shared.ask(0))
    while not queries.asked:
        await asyncio.sleep(0)
    same, later, too = (asyncio.create_task(shared.ask(0, again=again)) for again in (False, True, True))
    await asyncio.sleep(0)
    queries.go.set()
    assert list(await asyncio.gather(first, same, later, too)) == [1, 1, 2, 2]


async def test_no_query_is_for_more_than_the_limit() -> None:
    queries = _Queries()
    queries.go.set()
    shared = Shared(queries.answer, 2, "test")
    await asyncio.gather(*(shared.ask(key) for key in range(5)))
    assert queries.asked == [[0, 1], [2, 3], [4]]


async def test_what_cannot_be_asked_for_is_refused_alone() -> None:
    queries = _Queries()
    queries.go.set()
    shared = Shared(queries.answer, 100, "test")
    answers = await asyncio.gather(*(shared.ask(key) for key in (11, 12, 13, 14)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, int, ValueError, int]


async def test_a_database_that_is_away_is_asked_once_for_all() -> None:
    queries = _Queries()
    queries.go.set()
    queries.away = True
    shared = Shared(queries.answer, 100, "test")
    answers = await asyncio.gather(*(shared.ask(key) for key in range(8)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}
    assert len(queries.asked) == 1
    # and those who ask later are served again
    queries.away = False
    assert await shared.ask(1) == 2


async def test_whoever_gives_up_takes_nobodys_answer_along() -> None:
    queries = _Queries()
    shared = Shared(queries.answer, 100, "test")
    leaving, staying = (asyncio.create_task(shared.ask(0)) for _ in range(2))
    while not queries.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    queries.go.set()
    assert await staying == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving
