"""Events about a row are made in one way: the row says what of it stands on the record."""

from __future__ import annotations

import ast
from pathlib import Path

import broker

ROOT = Path(broker.__file__).parent


def by_hand(source: str) -> list[int]:
    """The lines on which an event takes a field from a row or a lease, in place of ``Event.about``."""
    return [
        call.lineno
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Event"
        and any(_of_a_row(given.value) for given in call.keywords)
    ]


def _of_a_row(value: ast.expr) -> bool:
    return isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id in {"row", "lease"}


def test_no_event_takes_the_fields_of_a_row_by_hand() -> None:
    found = {str(path.relative_to(ROOT)): by_hand(path.read_text()) for path in ROOT.rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_search_would_find_one() -> None:
    assert by_hand('Event(kind="grant.revoked", time=now, actor=actor, grant=row.id)') == [1]
    assert by_hand('Event.about(row, "grant.revoked", actor, now)') == []
