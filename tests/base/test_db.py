"""Connections are closed by whoever opened them, not by the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path

from sqlalchemy import text

import broker
from broker.base.db import EVERY_TENANT, Database


async def test_a_database_that_closes_leaves_no_connection_of_a_reader_open(sqlite_url: str) -> None:
    async def read(database: Database) -> None:
        async with database.read(EVERY_TENANT) as session:
            await session.execute(text("SELECT 1"))

    gc.collect()  # what others left is not asked about here
    gc.freeze()  # nor looked at again, each time
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for turn in range(40):
            # given a reader that is somewhere between its first statement and giving its connection back
            database = Database(sqlite_url)
            await read(database)
            reading = asyncio.create_task(read(database))
            await asyncio.sleep(turn * 0.0001)
            # when
            await database.close()
            await reading
            del database, reading
            gc.collect()
    # then
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)] == []


def test_which_dialect_it_is_and_how_tables_are_typed_is_known_in_one_room_only() -> None:
    """Upserts and statements without the ORM come from ``upsert`` and ``table``."""
    rooms = Path(broker.__file__).parent
    knows = {
        path.relative_to(rooms).parts[0]
        for path in rooms.rglob("*.py")
        if "sqlalchemy.dialects" in (text := path.read_text()) or "__table__" in text
    }
    assert knows == {"base"}
