"""A helper's name says what it is: no two test modules give one name to two classes."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parents[1]


def doubled(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """The classes that more than one of the modules define, with those modules."""
    defined: dict[str, list[str]] = defaultdict(list)
    for module, source in sources.items():
        for name in {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}:
            defined[name].append(module)
    return {name: modules for name, modules in defined.items() if len(modules) > 1}


def test_one_name_is_one_helper() -> None:
    assert doubled({str(file.relative_to(TESTS)): file.read_text() for file in sorted(TESTS.rglob("*.py"))}) == {}


def test_a_name_that_two_modules_define_is_found() -> None:
    one, other = "class Desk:\n    class Row: ...\n", "class Chair:\n    class Row: ...\nclass Desk: ...\n"
    assert doubled({"one.py": one, "other.py": other, "user.py": "from one import Desk\n"}) == {
        "Desk": ["one.py", "other.py"]
    }
