"""What each statement reads: rows on PostgreSQL, steps of its machine on SQLite.

Both are counted, so they are the same on a slow machine and on a fast one.

On PostgreSQL a statement is executed by EXPLAIN first, and rolled back.  In a small database the planner may find it
cheapest to read a table whole, although an index is there, which it takes in a large one.  So if a statement reads many
rows it is explained again without such ways.  What counts is the plan that reads the fewest.

On SQLite the driver's progress handler counts: to read a row and compare a column of it takes a few steps, to show it
one for each column.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection

from broker.base.db import Database

# A statement that reads more reads what grows.  Pages are of some hundred rows, with what belongs to each.
MOST = {"postgresql": 2_000, "sqlite": 25_000}
_STEPS_AT_ONCE = 100
_BY_INDEX = ("enable_seqscan = off", "enable_bitmapscan = off", "random_page_cost = 1")
_WAYS = ((), _BY_INDEX[:1], _BY_INDEX, (*_BY_INDEX, "enable_sort = off"))
_EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")
# Locks and settings of a session are no rows, and would be taken twice.
_NOT_TWICE = ("set_config(", "pg_")


@dataclass(frozen=True, slots=True)
class Read:
    """A statement, and how much it read.

    ``tables`` has the rows of each table and index on PostgreSQL; on SQLite its plan has them without numbers.
    """

    statement: str
    read: int
    tables: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        most = ", ".join(f"{name} {rows:,}" if rows else name for name, rows in self.tables.items())
        return f"{self.read:,} ({most}): {' '.join(self.statement.split())[:300]}"


# Of the task that looks, and of those that it starts: others of the same broker look after themselves meanwhile.
_found: ContextVar[list[Read] | None] = ContextVar("found", default=None)


@contextmanager
def reading(db: Database, *, times: int | None = None) -> Iterator[list[Read]]:
    """What the statements of this task's sessions read meanwhile, in their order.

    On PostgreSQL each is looked at so many ``times``, whatever its parameters.
    """
    found: list[Read] = []
    watch = _PostgresWatch(times) if db.dialect == "postgresql" else _SqliteWatch()
    engine = db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", watch.before)
    event.listen(engine, "after_cursor_execute", watch.after)
    looking = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(looking)
        event.remove(engine, "before_cursor_execute", watch.before)
        event.remove(engine, "after_cursor_execute", watch.after)


def _is_explained(statement: str) -> bool:
    return statement.lstrip("( \n").startswith(_EXPLAINED)


class _PostgresWatch:
    def __init__(self, times: int | None) -> None:
        self._times = times
        self._seen = Counter[str]()

    def before(
        self, connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        kept, found = _found.get(), []
        if kept is None or not _is_explained(statement) or any(word in statement for word in _NOT_TWICE):
            return
        self._seen[statement] += 1
        if self._times is not None and self._seen[statement] > self._times:
            return
        for way in _WAYS:
            tables = self._explained(connection, statement, parameters[0] if many else parameters, way)
            found.append(Read(statement, max(tables.values(), default=0), tables))
            if found[-1].read <= MOST["postgresql"]:
                break
        kept.append(min(found, key=lambda read: read.read))

    @staticmethod
    def _explained(connection: Connection, statement: str, parameters: Any, way: Sequence[str]) -> dict[str, int]:
        cursor = connection.connection.cursor()
        cursor.execute("SAVEPOINT explained")
        for setting in way:
            cursor.execute(f"SET LOCAL {setting}")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        answer = cursor.fetchall()[0][0]
        cursor.execute("ROLLBACK TO SAVEPOINT explained")
        cursor.execute("RELEASE SAVEPOINT explained")
        cursor.close()
        tables = Counter[str]()
        _count((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"], tables)
        return dict(tables)

    def after(self, *_: Any) -> None:
        """Nothing: it was explained before."""


def _count(node: Mapping[str, Any], tables: Counter[str]) -> None:
    scanned = node.get("Relation Name") or node.get("Index Name")
    if scanned is not None and node["Node Type"].endswith("Scan"):
        dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        tables[f"{node['Node Type']} {scanned}"] += round((node["Actual Rows"] + dropped) * node["Actual Loops"])
    for below in node.get("Plans", ()):
        _count(below, tables)


class _SqliteWatch:
    def __init__(self) -> None:
        self._steps: dict[int, int] = {}
        self._plans: dict[int, dict[str, int]] = {}

    def before(
        self, connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if _found.get() is None:
            return
        pooled: Any = connection.connection.dbapi_connection
        driver = id(pooled.driver_connection)
        if driver not in self._steps:

            def count() -> int:
                self._steps[driver] += _STEPS_AT_ONCE
                return 0

            pooled.run_async(lambda opened: opened.set_progress_handler(count, _STEPS_AT_ONCE))
        self._plans[driver] = self._explained(connection, statement, parameters[0] if many else parameters)
        self._steps[driver] = 0

    @staticmethod
    def _explained(connection: Connection, statement: str, parameters: Any) -> dict[str, int]:
        if not _is_explained(statement):
            return {}
        cursor = connection.connection.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        lines: Sequence[Any] = cursor.fetchall()
        cursor.close()
        return {str(line[3]): 0 for line in lines}

    def after(
        self, connection: Connection, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
    ) -> None:
        pooled: Any = connection.connection.dbapi_connection
        driver = id(pooled.driver_connection)
        if (kept := _found.get()) is not None and _is_explained(statement):
            kept.append(Read(statement, self._steps[driver], self._plans[driver]))
