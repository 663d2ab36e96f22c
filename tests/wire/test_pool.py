"""Connections that are kept: for how long, and that none stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from broker.wire.client import Exchange
from broker.wire.pool import Origin, Pool
from tests.wire.test_answers import asked

HERE = Origin("127.0.0.1", 0, None, private=True)
Call = Callable[[], Awaitable[None]]


@asynccontextmanager
async def pooled(said: str = "", kept_seconds: float = 15) -> AsyncIterator[tuple[Pool, list[Exchange], Call]]:
    """A pool before an upstream whose answers have this field."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\n{said}Content-Length: 0\r\n\r\n".encode())
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made: list[Exchange] = []
    loop = asyncio.get_running_loop()

    async def dial(_: Origin) -> Exchange:
        port = server.sockets[0].getsockname()[1]
        exchange = (await loop.create_connection(lambda: Exchange(loop), "127.0.0.1", port))[1]
        made.append(exchange)
        return exchange

    pool = Pool(dial, kept_seconds=kept_seconds)

    async def call() -> None:
        exchange = await pool.take(HERE)
        await asked(exchange)
        pool.give_back(HERE, exchange)

    yield pool, made, call
    pool.close()
    server.close()


async def test_the_next_call_uses_the_same_one() -> None:
    async with pooled() as (_, made, call):
        for _ in range(3):
            await call()
        assert len(made) == 1


async def test_what_rests_is_ended_in_its_time_also_where_no_call_comes() -> None:
    async with pooled(kept_seconds=0.2) as (pool, made, _call):
        held = [await pool.take(HERE) for _ in range(5)]
        for exchange in held:
            await asked(exchange)
            pool.give_back(HERE, exchange)
        assert not any(exchange.closed for exchange in made)
        async with asyncio.timeout(20):
            while not all(exchange.closed for exchange in made):
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("said", "dialled"),
    [
        ("Keep-Alive: timeout=5\r\n", 1),
        ("Keep-Alive: max=100, timeout=60\r\n", 1),
        ("Keep-Alive: max=7\r\n", 1),
        ("Keep-Alive: timeout=1\r\n", 2),
        ("Keep-Alive: timeout=0\r\n", 2),
        ("Connection: close\r\n", 2),
    ],
)
async def test_none_is_used_again_that_upstream_is_about_to_close(said: str, dialled: int) -> None:
    async with pooled(said) as (_, made, call):
        await call()
        await call()
        assert len(made) == dialled


async def test_one_rests_for_less_than_upstream_keeps_it() -> None:
    async with pooled("Keep-Alive: timeout=5\r\n") as (_, made, call):
        before = asyncio.get_running_loop().time()
        await call()
        assert made[0].rests_until - before < 5
