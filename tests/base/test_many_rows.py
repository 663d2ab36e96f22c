"""One statement for many rows does what the same statement does row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Executable, Insert, create_mock_engine, insert

from broker.audit.guards import raising
from broker.audit.quota import GIVE_BACK, cooldown_statement
from broker.base.db import table
from broker.base.many_rows import apart, on_json
from broker.base.statements import OnSqlite, compiled
from broker.care.health import SUSPECT
from broker.leases.tables import LeaseRow
from broker.proxy.use import AUTHORIZE_USE, COMPLETE_USE

POSTGRESQL = create_mock_engine("postgresql+asyncpg://", lambda *_: None).dialect
INSERT = "INSERT INTO things (id, n) VALUES (?, ?)"
UPSERT = f"{INSERT} ON CONFLICT (id) DO UPDATE SET n = excluded.n"
SET = "UPDATE things SET n=? WHERE things.id = ? AND things.n > ?"
EITHER = "UPDATE things SET n=? WHERE things.id = ? OR things.n = ?"
ADD = "UPDATE things SET n=(things.n + 1) WHERE things.id = ?"
GONE = "DELETE FROM things WHERE things.id = ?"
NESTED = "UPDATE things SET n=? WHERE id IN (SELECT id FROM things WHERE id = ?)"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.execute("CREATE TABLE things (id TEXT PRIMARY KEY, n INTEGER)")
        yield made


def stored(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT id, n FROM things"))


@pytest.mark.parametrize("number", [1, 2, 256])
def test_rows_for_a_table_are_one_statement_whatever_their_number(connection: sqlite3.Connection, number: int) -> None:
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    transaction = OnSqlite(connection)
    transaction.many(INSERT, [(f"t{one}", one) for one in range(number)])
    transaction.many(SET, [(one + 1, f"t{one}", -1) for one in range(number)])
    assert len(seen) == 2
    assert stored(connection) == {f"t{one}": one + 1 for one in range(number)}


def test_more_values_than_a_statement_takes_are_several(connection: sqlite3.Connection) -> None:
    rows = [(f"t{one}", one) for one in range(40_000)]
    OnSqlite(connection).many(INSERT, rows)
    assert stored(connection) == dict(rows)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (UPSERT, [("a", 1), ("b", 2), ("a", 3)]),
        (SET, [(5, "a", 0), (4, "b", 0), (3, "a", 4), (2, "a", 4), (9, "none", 0)]),
        (ADD, [("a",), ("b",), ("a",), ("a",)]),
        (NESTED, [(7, "a"), (8, "b"), (9, "a")]),
        (EITHER, [(2, "a", 7), (1, "b", 2), (5, "c", 1)]),
        (GONE, [("a",), ("none",), ("c",), ("a",)]),
    ],
    ids=["upsert", "set", "add", "nested", "either", "gone"],
)
def test_they_change_what_each_row_alone_would_change_in_their_order(
    connection: sqlite3.Connection, sql: str, rows: list[tuple[Any, ...]]
) -> None:
    given = [("a", 1), ("b", 1), ("c", 1)]
    OnSqlite(connection).many(INSERT, given)
    OnSqlite(connection).many(sql, rows)
    together = stored(connection)
    connection.execute("DELETE FROM things")
    connection.executemany(INSERT, given)
    connection.executemany(sql, rows)
    assert together == stored(connection)


def test_a_row_that_is_refused_leaves_none_of_its_statement(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        OnSqlite(connection).many(INSERT, [("a", 1), ("b", 2), ("a", 3)])
    assert stored(connection) == {}


def test_a_row_that_is_changed_twice_is_changed_by_two_statements() -> None:
    assert apart(SET, [(1, "a", 0), (1, "b", 0), (2, "a", 0)]) == [[(1, "a", 0), (1, "b", 0)], [(2, "a", 0)]]
    assert apart(ADD, [("a",), ("b",), ("a",)]) == [[("a",), ("b",)], [("a",)]]
    assert apart(INSERT, [("a", 1), ("a", 2)]) == [[("a", 1), ("a", 2)]]
    assert apart(UPSERT, [(7, "a", 1), (8, "a", 2)], 1) == [[(7, "a", 1)], [(8, "a", 2)]]
    assert apart(NESTED, [(7, "a"), (8, "b")]) == [[(7, "a")], [(8, "b")]]
    assert apart(NESTED, []) == []


OF_THE_RECORD: dict[str, Executable] = {
    "use": AUTHORIZE_USE,
    "outcome": COMPLETE_USE,
    "lease": insert(table(LeaseRow)),
    "given-back": GIVE_BACK,
    "pause": cooldown_statement("postgresql"),
    "epoch": raising("postgresql", ["id"])[0][0],
}


@pytest.mark.parametrize("statement", OF_THE_RECORD.values(), ids=OF_THE_RECORD)
def test_what_goes_with_uses_and_leases_is_one_statement_for_many_rows_on_postgresql(statement: Executable) -> None:
    columns = [column.name for column in statement.table.columns] if isinstance(statement, Insert) else ()
    sql = compiled(POSTGRESQL, statement, columns).sql
    made = on_json(sql)
    assert "jsonb_array_elements($1) AS given(value)" in made
    assert made.count("$") == 1
    assert len(apart(sql, [tuple(f"{row}{place}" for place in range(20)) for row in "ab"])) == 1


def test_a_statement_with_a_query_in_it_goes_row_by_row() -> None:
    sql, names, _ = compiled(POSTGRESQL, SUSPECT, ())
    assert "($1->0->>1)::BIGINT" in on_json(sql)
    assert len(apart(sql, [tuple(names)] * 3)) == 3
