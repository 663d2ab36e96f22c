"""What documents name: tests, by the file that they stand in."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def found_in(place: Path) -> frozenset[str]:
    """The names of the tests of a file, or of all below a folder.

    A machine of Hypothesis, which is assigned to a name, is one too.
    """
    files = [place] if place.is_file() else sorted(place.rglob("test_*.py"))
    names: set[str] = set()
    for node in (node for file in files for node in ast.parse(file.read_text()).body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(name for name in names if name.lower().startswith("test"))
