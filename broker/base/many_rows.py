"""One statement for many rows, derived from its text for one.  Pure.

A row's values are a tuple in the order of the text's parameters.  What SQLAlchemy compiles is understood: an INSERT of
one row, also with ON CONFLICT, an UPDATE without another query in it, and a DELETE by one column.  Other statements are
executed row by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count
from typing import Any, Final, NamedTuple

# What SQLite takes in one statement by default.
_PARAMETERS_MOST: Final = 32_766
_INSERT = re.compile(r"(INSERT INTO \w+ \((.*?)\)) VALUES \(([^()]*)\)(?:( ON CONFLICT \((.*?)\).*))?", re.DOTALL)
_UPDATE = re.compile(r"(UPDATE \w+ SET .*?)( WHERE .*)", re.DOTALL)
_DELETE = re.compile(r"(DELETE FROM \w+)( WHERE (\S+) = (?:\?|\$1\S*))")
_NUMBERED = re.compile(r"\$(\d+)")
_BYTES = re.compile(r"\$(\d+)::BYTEA")
_EQUAL = re.compile(r"= \$(\d+)")
# Which row such a statement changes isn't told by what it compares for being equal.
_UNCLEAR = re.compile(r"\b(?:SELECT|OR)\b")

Values = tuple[Any, ...]


class _Form(NamedTuple):
    """A statement's text in parts, and which values say what row it changes.

    The positions of these are None if it may meet a row twice, and empty if that can't be told.  ``joins`` is how it
    names other rows than those it changes; ``of`` is the column by which it deletes.
    """

    head: str
    values: str
    tail: str
    key: tuple[int, ...] | None
    joins: str = "FROM"
    of: str = ""


@cache
def _form(sql: str) -> _Form:
    if insert := _INSERT.fullmatch(sql):
        columns = insert[2].split(", ")
        key = None if insert[5] is None else tuple(columns.index(name) for name in insert[5].split(", "))
        return _Form(insert[1], insert[3], insert[4] or "", key)
    if delete := _DELETE.fullmatch(sql):
        return _Form(delete[1], "", delete[2], None, "USING", delete[3])
    update = _UPDATE.fullmatch(_numbered(sql))
    if update is None or _UNCLEAR.search(sql):
        return _Form(sql, "", "", ())
    return _Form(update[1], "", update[2], tuple(int(number) - 1 for number in _EQUAL.findall(update[2])))


def _numbered(sql: str) -> str:
    """The statement with ``$1`` and so on for SQLite's parameters, as PostgreSQL's are written."""
    numbers = count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", sql)


def apart(sql: str, rows: Sequence[Values], first: int = 0) -> Sequence[Sequence[Values]]:
    """Rows in groups, of which each may be one statement's: it doesn't change a row twice.

    Rows that change the same row keep their order.  ``first`` is the place of a row's first value: something else may
    stand before.
    """
    key = _form(sql).key
    if key is None:
        return [rows]
    if not key:
        return [[row] for row in rows]
    groups: list[list[Values]] = []
    times: dict[Values, int] = {}
    for row in rows:
        changed = tuple([row[first + position] for position in key])
        number = times[changed] = times.get(changed, -1) + 1
        if number == len(groups):
            groups.append([])
        groups[number].append(row)
    return groups


def on_sqlite(sql: str, rows: Sequence[Values]) -> Iterable[tuple[str, Sequence[Any]]]:
    """Statements for these rows with their parameters.

    It is one, unless there are more values than one may have.
    """
    form = _form(sql)
    at_once = _PARAMETERS_MOST // len(rows[0])
    for group in [rows] if form.values else apart(sql, rows):  # an INSERT goes row by row by itself
        for start in range(0, len(group), at_once):
            some = group[start : start + at_once]
            yield _on_sqlite(sql, len(some)), [value for row in some for value in row]


def _on_sqlite(sql: str, number: int) -> str:
    if number == 1:
        return sql
    form = _form(sql)
    if form.values:
        return f"{form.head} VALUES {', '.join([f'({form.values})'] * number)}{form.tail}"
    if form.of:
        return f"{form.head} WHERE {form.of} IN (VALUES {', '.join(['(?)'] * number)})"
    head, tail = (_NUMBERED.sub(r"given.column\1", part) for part in (form.head, form.tail))
    row = f"({', '.join('?' * sql.count('?'))})"
    return f"{head} FROM (VALUES {', '.join([row] * number)}) AS given{tail}"


@cache
def on_json(sql: str) -> str:
    """The statement for PostgreSQL whose one parameter is an array of rows (jsonb).

    Each row is an array itself: something else, then the row's values, bytes in Base64.  The rows are of one group
    (:func:`apart`).
    """
    form = _form(sql)
    if form.key == ():
        return _from_json(sql, "$1->0")
    head, values, tail = (_from_json(part, "given.value") for part in form[:3])
    rows = "jsonb_array_elements($1) AS given(value)"
    return f"{head} SELECT {values} FROM {rows}{tail}" if values else f"{head} {form.joins} {rows}{tail}"  # noqa: S608 - the statement's own parts


def _from_json(sql: str, row: str) -> str:
    text = _BYTES.sub(lambda number: f"decode({row}->>{number[1]}, 'base64')", sql)
    return _NUMBERED.sub(lambda number: f"({row}->>{number[1]})", text)
