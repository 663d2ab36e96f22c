"""States are types: no state's word stands outside the module that says what states there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import broker

ROOT = Path(broker.__file__).parent
# The one plays somebody else's service, whose words are its own; the other calls the API, as a program elsewhere does.
_SOMEBODY_ELSES = frozenset({"sandbox", "cli"})


def bare_states(source: str) -> list[int]:
    """The lines at which a row's ``state`` is compared with, set to or made with a bare word."""
    return sorted({word.lineno for node in ast.walk(ast.parse(source)) for word in _given(node) if _has_word(word)})


def _given(node: ast.AST) -> Iterator[ast.expr]:
    """What a state is compared with, set to or made with at this node, if that is what the node does."""
    match node:
        case ast.Compare(left=left, comparators=others) if any(map(_is_state, [left, *others])):
            yield from (each for each in [left, *others] if not _is_state(each))
        case ast.Call(func=ast.Attribute(value=compared), args=arguments) if _is_state(compared):
            yield from arguments
        case ast.Call(keywords=keywords):
            yield from (keyword.value for keyword in keywords if keyword.arg == "state")
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _assigned(target, value)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield from _assigned(target, value)
        case ast.Match(subject=subject, cases=cases) if _is_state(subject):
            yield from (part.value for case in cases for part in ast.walk(case) if isinstance(part, ast.MatchValue))


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[ast.expr]:
    """What a state becomes by an assignment, of many at once too."""
    if _is_state(target):
        yield value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=False):
            yield from _assigned(one, its)
    elif isinstance(target, ast.Tuple) and any(map(_is_state, target.elts)):
        yield value


def _is_state(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "state"


def _has_word(node: ast.expr) -> bool:
    """Whether a bare word is among an expression's values; what it compares or calls is looked at by itself."""
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            return any(map(_has_word, parts))
        case ast.IfExp(body=one, orelse=other):
            return _has_word(one) or _has_word(other)
        case ast.Call(func=ast.Name(id="frozenset" | "set" | "str"), args=parts):
            return any(map(_has_word, parts))
    return False


def test_no_state_is_a_bare_word() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] not in _SOMEBODY_ELSES
        for line in bare_states(path.read_text())
    ]
    assert found == []


def test_a_bare_word_is_found_however_it_is_written() -> None:
    source = """
row.state == "open"
row.state not in {"open", State.HELD}
"held" != row.state
row.state.in_(["open"])
row.state, row.at = "open", now
row.at, row.state = now, "held" if late else State.OPEN
row.state, row.at = ("open", now) if early else ("held", None)
Row(id=1, state="open")
statement.values(state="dead" if dead else state)
row.state = "open"
row.state in frozenset({"open"})
"""
    assert bare_states(source) == list(range(2, source.count("\n") + 1))


def test_types_and_words_of_other_things_are_none() -> None:
    source = """
row.state == State.OPEN
row.state, row.reason = State.OPEN, "late"
row.kind == "minted"
View(state=shown(row))
app.state.services = Services(name="broker")
row.state in {State.OPEN, other.state}
"""
    assert bare_states(source) == []
