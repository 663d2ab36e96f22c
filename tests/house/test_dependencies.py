"""What is imported is declared where it is needed: what comes along with something else may go with it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import files, packages_distributions
from pathlib import Path

import pytest

from broker.cli import TABLE

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {"broker", "migrations", "tests"}
# A job on AWS has it for its own calls; the others do without.
BROUGHT = {"boto3", "botocore"}

JOBS_SIDE = PROJECT["project"]["dependencies"]
SERVER = [*JOBS_SIDE, *PROJECT["project"]["optional-dependencies"]["server"]]
TESTS = [*SERVER, *PROJECT["dependency-groups"]["dev"]]


def names(declared: Iterable[str]) -> set[str]:
    """The normalized names in a list of requirements."""
    return {_normal(re.split(r"[^\w.-]", one)[0]) for one in declared}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def imports(source: Path, *, lazily: bool = True) -> frozenset[str]:
    """Every module that a source imports; ``lazily`` False leaves out what stands in functions and under an ``if``."""
    found = set[str]()
    for node in _statements(ast.parse(source.read_text()), lazily=lazily):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module.startswith("broker"))
    return frozenset(found)


def _statements(tree: ast.AST, *, lazily: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if lazily or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If)):
            yield from _statements(node, lazily=lazily)


def undeclared(sources: Iterable[Path], declared: set[str], *, lazily: bool = True) -> set[str]:
    """What is imported from elsewhere and not among the declared, as ``distribution (source)``."""
    return {
        f"{' or '.join(sorted(came))} ({source.relative_to(ROOT)})"
        for source in sources
        for module in imports(source, lazily=lazily)
        if module.partition(".")[0] not in OURS | BROUGHT | sys.stdlib_module_names
        and not (came := distributions(module)) & declared
    }


@cache
def distributions(module: str) -> frozenset[str]:
    """What brings a module along; where several share its top level, only those that have its file."""
    top = set(packages_distributions().get(module.partition(".")[0], [f"{module}, which isn't installed"]))
    if len(top) > 1:
        path = module.replace(".", "/")
        top = {one for one in top if any(str(file).startswith((f"{path}/", f"{path}.py")) for file in files(one) or ())}
    return frozenset(map(_normal, top))


def reached(roots: Iterable[str]) -> Iterator[Path]:
    """The sources of ``broker`` that importing these modules runs."""
    waiting, seen = list(roots), set[Path]()
    while waiting:
        place = ROOT.joinpath(*waiting.pop().split("."))
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if source.exists() and source not in seen:
            seen.add(source)
            waiting += imports(source, lazily=False)
            yield source


def test_the_jobs_side_needs_what_it_declares_alone() -> None:
    sources = (ROOT / "broker/client").rglob("*.py")
    client = [".".join(source.relative_to(ROOT).with_suffix("").parts) for source in sources]
    commands = [entry.module for entry in TABLE.values() if not entry.server]
    found = list(reached(["broker.__main__", "broker.client", *client, *commands]))
    assert len(found) > 40
    assert undeclared(found, names(JOBS_SIDE), lazily=False) == set()


@pytest.mark.parametrize(
    ("folders", "declared"), [(("broker", "migrations"), SERVER), (("tests",), TESTS)], ids=["server", "tests"]
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], declared: list[str]) -> None:
    sources = [source for folder in folders for source in (ROOT / folder).rglob("*.py")]
    assert undeclared(sources, names(declared)) == set()


def test_the_comparison_finds_what_is_not_declared() -> None:
    source = ROOT / "broker/cli/output.py"
    assert undeclared([source], names(SERVER) - {"rich"}) == {"rich (broker/cli/output.py)"}
    spans = ROOT / "broker/base/spans.py"  # shares its top level with what is declared
    assert undeclared([spans], names(SERVER) - {"opentelemetry-api"}) == {"opentelemetry-api (broker/base/spans.py)"}
