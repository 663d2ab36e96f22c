"""How often somebody goes to a database and waits for its answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest import mock
from urllib.parse import quote

import aiosqlite
from sqlalchemy.engine import make_url

# After each of these (Query, Sync, Flush) a client waits for the server.
_ASKS = frozenset(b"QSH")


class Trips:
    """How many there were; ``since`` the last question."""

    def __init__(self) -> None:
        self._count = self._asked = 0

    def add(self) -> None:
        self._count += 1

    def since(self) -> int:
        """How many there were since this was asked last."""
        count, self._asked = self._count - self._asked, self._count
        return count


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[tuple[str, Trips]]:
    """An address at which the same database is, and the trips to it.

    Of SQLite that is every hop to a thread, of whatever database of this process.
    """
    trips = Trips()
    if url.startswith("sqlite"):
        with _hops(trips):
            yield url, trips
        return
    there = str(make_url(url).query["host"])
    with tempfile.TemporaryDirectory(prefix="kb-trips-") as directory:  # a socket's path must be short
        server = await asyncio.start_unix_server(
            lambda reader, writer: _through(reader, writer, there, trips), Path(directory) / ".s.PGSQL.5432"
        )
        async with server:
            yield url.partition("?")[0] + f"?host={quote(directory, safe='')}", trips


@contextmanager
def _hops(trips: Trips) -> Iterator[None]:
    submit = ThreadPoolExecutor.submit

    def submitting(self: ThreadPoolExecutor, *arguments: Any, **more: Any) -> Any:
        trips.add()
        return submit(self, *arguments, **more)

    def putting(self: SimpleQueue[Any], given: Any) -> None:
        trips.add()
        SimpleQueue.put_nowait(self, given)

    # aiosqlite hands each call to its thread over such a queue
    counting = type("Counting", (SimpleQueue,), {"put_nowait": putting})
    with (
        mock.patch.object(ThreadPoolExecutor, "submit", submitting),
        mock.patch.object(aiosqlite.core, "SimpleQueue", counting),
    ):
        yield


async def _through(client: asyncio.StreamReader, back: asyncio.StreamWriter, there: str, trips: Trips) -> None:
    server, out = await asyncio.open_unix_connection(Path(there) / ".s.PGSQL.5432")
    answering = asyncio.create_task(_answers(server, back))
    try:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            out.write(await _message(client, b""))  # the first has no kind
            while True:
                kind = await client.readexactly(1)
                out.write(await _message(client, kind))
                if kind[0] in _ASKS:
                    trips.add()
    finally:
        out.close()
        await answering


async def _message(client: asyncio.StreamReader, kind: bytes) -> bytes:
    length = await client.readexactly(4)
    return kind + length + await client.readexactly(int.from_bytes(length) - 4)


async def _answers(server: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await server.read(65_536):
            back.write(data)
    back.close()
