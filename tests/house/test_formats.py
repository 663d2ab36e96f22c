"""Each format has a page for readers without the code, and the page says what the code does."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE, PAGES = ROOT / "broker" / "formats", ROOT / "docs" / "formats"
MODULES = sorted(path.stem for path in CODE.glob("*.py") if path.stem != "__init__")
# Formats on the wire that rooms make themselves; the tests that their pages name hold these to the code.
ELSEWHERE = ["siem", "timeline", "webhook"]
EVERY = pytest.mark.parametrize("module", MODULES)
PAGE = pytest.mark.parametrize("module", [*MODULES, *ELSEWHERE])
_LABEL = re.compile(r"[a-z]+(?:/[a-z-]+)*/v[0-9]*")


def tree_of(module: str) -> ast.Module:
    return ast.parse((CODE / f"{module}.py").read_text())


def page_of(module: str) -> str:
    return (PAGES / f"{module}.md").read_text()


def layout_of(module: str) -> str:
    """The literal block of a module's docstring, "" where it has none."""
    _, _, after = (ast.get_docstring(tree_of(module)) or "").partition("\n::\n\n")
    lines = re.match(r"(?:    .*\n|\n)*", after + "\n")
    return re.sub(r"^    ", "", lines[0], flags=re.MULTILINE).strip("\n") if lines else ""


def labels_of(module: str) -> set[str]:
    """The labels that a module's code hashes, one without a number where the code appends it."""
    constants = [node.value for node in ast.walk(tree_of(module)) if isinstance(node, ast.Constant)]
    texts = [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in constants]
    return {text.rstrip("\0") for text in texts if _LABEL.fullmatch(text.rstrip("\0"))}


def test_every_format_has_its_page_and_every_page_its_format() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README") == sorted(MODULES + ELSEWHERE)
    listed = re.findall(r"^\| \[[^]]+\]\((\w+)\.md\)", (PAGES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(MODULES + ELSEWHERE)


@EVERY
def test_the_layout_of_a_page_is_that_of_the_code(module: str) -> None:
    shown = re.findall(r"```text\n(.*?)\n```", page_of(module), re.DOTALL)
    layout = layout_of(module)
    assert shown == ([layout] if layout else [])


def test_the_formats_with_a_layout_are_known() -> None:
    assert [module for module in MODULES if not layout_of(module)] == ["base64url", "ids"]


@EVERY
def test_the_labels_of_a_page_are_those_of_the_code(module: str) -> None:
    code = labels_of(module)
    page = {label for label in _LABEL.findall(page_of(module)) if label[-1].isdigit()}
    assert {label if label in code else label.rstrip("0123456789") for label in page} == code


def test_labels_are_found_in_the_code() -> None:
    assert {module for module in MODULES if labels_of(module)} == {
        "audit_event",
        "certificate",
        "cosignature",
        "envelope",
        "intake_seal",
        "link_proof",
        "link_secret",
        "ml_dsa",
        "personal_part",
        "rowmac",
        "token",
    }


@PAGE
def test_the_vectors_of_a_page_are_what_the_code_makes(module: str) -> None:
    path = PAGES / f"{module}.md"
    blocks = re.findall(r"```pycon\n(.*?)```", page_of(module), re.DOTALL)
    assert blocks
    made = doctest.DocTestParser().get_doctest("".join(blocks), {}, module, str(path), 0)
    assert len(made.examples) >= 3
    said: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(made, out=said.append).failed == 0, "".join(said)


@PAGE
def test_a_page_names_the_files_that_have_more_vectors(module: str) -> None:
    (more,) = re.findall(r"^Tests and vectors: (.+)\.$", page_of(module), re.MULTILINE)
    files = re.findall(r"`([^`]+)`", more)
    assert files
    assert all((ROOT / file).is_file() for file in files), files


def test_the_prefixes_of_ids_are_all_there() -> None:
    from broker.formats.ids import PREFIXES

    shown = re.findall(r"`([a-z]{3})` ([a-z ]+)[,.]", page_of("ids").replace("\n  ", " "))
    named = {prefix: f"{name.title().replace(' ', '')}Id" for prefix, name in shown}
    assert named == {prefix: getattr(kind, "__name__", "") for kind, prefix in PREFIXES.items()}
