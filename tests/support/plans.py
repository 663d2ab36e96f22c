"""How a database goes about a statement, as it says itself."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ClauseElement, text

from broker.base.db import EVERY_TENANT, Database


async def plan_of(db: Database, statement: ClauseElement) -> str:
    """The plan's steps, a line each; tables are taken for large, however few rows they have."""
    dialect = db.engine.dialect
    compiled: Any = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    given = compiled.construct_params()
    async with db.read(EVERY_TENANT) as session:
        if dialect.name == "postgresql":
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            await session.execute(text("SET LOCAL enable_sort = off"))
        explain = "EXPLAIN " if dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
        rows: Any = await (await session.connection()).exec_driver_sql(
            explain + str(compiled), tuple(given[name] for name in compiled.positiontup)
        )
        return "\n".join(str(row[-1]) for row in rows)
