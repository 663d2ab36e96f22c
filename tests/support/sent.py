"""How a database would find the rows of statements, as it says itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Executable, event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.base.db import EVERY_TENANT, Database

Sent = list[tuple[str, Any]]


@contextmanager
def noted(by: Database | AsyncConnection, *words: str) -> Iterator[Sent]:
    """The statements that are sent meanwhile and have all these words, with their parameters."""
    sent: Sent = []
    sender = by.engine.sync_engine if isinstance(by, Database) else by.sync_connection

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if all(word in statement for word in words):
            sent.append((statement, parameters))

    event.listen(sender, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(sender, "before_cursor_execute", note)


async def plan(db: Database, statement: str, parameters: Any, *, off: str = "bitmapscan") -> str:
    """The plan of a statement on a large database: a small one would rather read all there is.

    ``off`` is what PostgreSQL does without, beside reading whole tables.
    """
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "
    async with db.read(EVERY_TENANT) as session:
        if db.dialect == "postgresql":
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            await session.execute(text(f"SET LOCAL enable_{off} = off"))
        connection = await session.connection()
        rows = await connection.exec_driver_sql(explain + statement, parameters)
        return "\n".join(str(row[-1]) for row in rows)


async def plan_of(db: Database, statement: Executable) -> str:
    """The plan of a statement, without a sort; whatever it changes is undone."""
    async with db.read(EVERY_TENANT) as session:
        # On its own connection, as others may send statements meanwhile.
        with noted(await session.connection()) as sent:
            await session.execute(statement)
    return await plan(db, *sent[-1], off="sort")
