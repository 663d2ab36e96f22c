"""What a machine can check of the rule on English in CONTRIBUTING.md, over docstrings and comments."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_FIRST_LINE_MOST = 90
_RETIRED = {
    r"\bmend(s|ed|ing)?\b": "say fix",
    r"\banew\b": "say again",
    r"[Aa]gain: (no|nothing)\b": "say idempotent",
    r"\A(See|As) :[a-z]+:`[^`]*`\.\Z": "say what it adds, or nothing",
}
_NO_WORDS = frozenset({"a", "an", "the", "this", "it", "its"})

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def faults(source: str, commands: Set[str] = frozenset()) -> Iterator[tuple[int, str]]:
    """The lines at which the words of a module break the rule, each with what to do.

    ``commands`` are functions that other modules hand to an app, see :func:`handed_over`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)) is not None:
            line = node.body[0].lineno
            yield from ((line, advice) for advice in (*_of_docstring(node, text, commands), *_of_words(text)))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], advice) for advice in _of_words(token.string))


def handed_over(source: str) -> Iterator[str]:
    """The functions that a module makes commands of, by name: ``app.command("login")(operator.login)``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Call(func=ast.Attribute(attr="command")), args=[command]):
                yield ast.unparse(command).rpartition(".")[2]


def _of_docstring(node: Documented, text: str, commands: Set[str]) -> Iterator[str]:
    first = text.splitlines()[0]
    if len(first) > _FIRST_LINE_MOST and not _is_read_by_users(node, commands):
        yield f"the first line has {len(first)} characters, at most {_FIRST_LINE_MOST} are read"
    if not isinstance(node, ast.Module) and _words(text) <= _words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.name)):
        yield "it only repeats the name: say what it adds, or nothing"


def _of_words(text: str) -> Iterator[str]:
    return (advice for pattern, advice in _RETIRED.items() if re.search(pattern, text))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower())) - _NO_WORDS


def _is_read_by_users(node: Documented, commands: Set[str]) -> bool:
    """Whether a docstring is a command's help or a description in the API's document, which readers see whole."""
    match node:
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            called = [each.func for each in decorators if isinstance(each, ast.Call)]
            return node.name in commands or any(isinstance(each, ast.Attribute) and _registers(each) for each in called)
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id in {"Body", "View"} for base in bases)
    return False


def _registers(decorator: ast.Attribute) -> bool:
    on_router = isinstance(decorator.value, ast.Name) and decorator.value.id == "router"
    return on_router or decorator.attr in {"command", "callback"}


def _room(path: Path) -> str:
    """The room of a module; a module that stands beside rooms is one."""
    return "/".join(path.relative_to(ROOT).parts[:2])


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """By room, where its modules break the rule and what to do; the tests' support is one."""
    commands = {name for path in (ROOT / "broker/cli").rglob("*.py") for name in handed_over(path.read_text())}
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted([*(ROOT / "broker").rglob("*.py"), *(ROOT / "tests/support").rglob("*.py")]):
        here = faults(path.read_text(), commands)
        places[_room(path)] += [f"{path.relative_to(ROOT)}:{line}: {what}" for line, what in here]
    return places


def test_docstrings_and_comments_keep_to_the_rule(found: dict[str, list[str]]) -> None:
    assert [fault for here in found.values() for fault in here] == []


def test_every_kind_of_fault_is_found() -> None:
    long = "x" * (_FIRST_LINE_MOST + 1)
    source = f'''"""{long}"""
# Whoever meets it has to mend it.
class Door:
    """The door."""
    def close(self):
        """See :meth:`Wall.close`."""
    def open(self):  # made anew each time
        """Open it.  Again: no change."""
    def open_door(self):
        """Open the door."""
'''
    assert sorted({line for line, _ in faults(source)}) == [1, 2, 4, 6, 7, 8, 10]


def test_texts_that_users_read_and_docstrings_that_add_something_are_none() -> None:
    long = "x" * (_FIRST_LINE_MOST + 1)
    source = f'''"""{long[1:]}

{long}
"""
class Door(View):
    """{long}"""
@router.get("/door")
async def door():
    """{long}"""
@app.command()
def open_door():
    """{long}"""
def lock():
    """{long}"""
app.command("shut")(lock)
def close():
    """Close it; raises as :meth:`open`.  See :class:`Door`."""
'''
    assert list(faults(source, {*handed_over(source)})) == []
