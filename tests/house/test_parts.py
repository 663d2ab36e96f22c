"""Whoever needs a part is handed it: nobody reaches for others' through a colleague."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import broker
from broker.parts import Parts
from broker.web.services import Services

ROOT = Path(broker.__file__).parent
# Of those that are handed all services: the edge, commands, and the composition root.
_HOLDERS = {"services", "_services", "wired"}
# By whom each name is read: a part from `parts`, a service from who holds them all; one's own from `self`.
_OWNERS = {
    **{part.name: {"parts"} for part in fields(Parts)},
    **{service.name: _HOLDERS for service in fields(Services)},
}
# What has a part's or a service's name and is neither.
_OTHERS = {
    "import_key_set.keys",  # of a JWK Set
    "settings.keystore",  # its name
    "snapshot.keys",  # of a credential
    "done.links",  # how many, after a restore
    "found.jobs",  # who used a key
    "Path.parts",
    "inner.parts",  # of a path
}
# They stand below the parts, and know none.
_BELOW = {"client", "keystore", "sandbox", "wire"}
_MOST_LINES, _MOST_PARAMETERS = 45, 4


def reaches(source: str) -> list[str]:
    """What is reached for through somebody else, as it is written, with its line."""
    return [f"{node.lineno}: {ast.unparse(node)}" for node in _reaching(ast.parse(source))]


def _reaching(tree: ast.AST) -> Iterator[ast.Attribute]:
    methods = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in _OWNERS:
            continue
        # Only the clock among the parts is called; whatever else is called is a method of that name.
        if id(node) in methods and node.attr != "clock":
            continue
        owner = _last_name(node.value)
        if owner != "self" and owner not in _OWNERS[node.attr] and f"{owner}.{node.attr}" not in _OTHERS:
            yield node


def _last_name(node: ast.expr) -> str:
    """The name that an expression ends with; that of the function if it is a call."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=function):
            return _last_name(function)
    return ""


@pytest.mark.parametrize(
    "reaching",
    [
        "self.verification.catalog",
        "verification.db.read(scope)",
        "wired.verification.clock()",
        "rotating.making.keys",
        "found = self.rotating.parts",
        "self.submissions.verification.run()",
        "colleague = self.verification; colleague.keystore.open(sealed)",
        "self.flights().leasing.end()",
    ],
)
def test_reaching_through_a_colleague_is_seen(reaching: str) -> None:
    assert reaches(reaching)


@pytest.mark.parametrize(
    "own",
    [
        "self.db.read(scope)",
        "self.parts.clock()",
        "wired.parts.db.read(scope)",
        "call.services.leasing.end()",
        "parts.keys.keystore()",
        "found.keys()",
    ],
)
def test_what_one_was_handed_is_nobodys_business(own: str) -> None:
    assert reaches(own) == []


def test_nobody_reaches_for_parts_or_services_through_a_colleague() -> None:
    found = {
        str(path.relative_to(ROOT)): reaching
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] not in _BELOW and (reaching := reaches(path.read_text()))
    }
    assert found == {}, "have it handed over: `Parts` are for everybody, a service comes by the constructor"


def test_the_composition_root_is_in_pieces_that_one_can_hold_in_the_head() -> None:
    tree = ast.parse((ROOT / "app.py").read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {
        each.name: lines
        for each in functions
        if (lines := (each.end_lineno or 0) - each.lineno + 1) > _MOST_LINES or len(each.args.args) > _MOST_PARAMETERS
    } == {}
