"""The reference is what the code says now, and leaves nothing out that somebody could meet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.config import Settings
from tests.reference import commands, problems, settings
from tests.reference.pages import FOLDER, PAGES

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_what_the_code_makes(name: str) -> None:
    path = FOLDER / name
    assert path.exists()
    assert path.read_text(encoding="utf-8") == PAGES[name](), f"docs/reference/{name} is stale; run `make reference`"


def test_the_reference_has_no_page_that_nothing_makes() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*PAGES, "README.md"}


def test_every_code_that_a_test_has_seen_has_its_cause_and_its_fix() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    seen = set(re.findall(r'(?:\["code"\]|\.code) == "([a-z_]+)"', text))
    assert len(seen) > 30
    assert seen - problems.found().keys() == set()


def test_every_code_is_explained_in_sentences() -> None:
    for code, advice in problems.advised().items():
        assert set(advice) == {"cause", "fix"}, code
        for text in advice.values():
            assert text[0].isupper() or text[0] == "`", code
            assert text.endswith("."), code


def test_commands_that_the_advice_names_exist() -> None:
    known = {name for name, _, _ in commands.walked()}
    named = set(re.findall(r"`(broker(?: [a-z][a-z-]+)+)", problems.ADVICE.read_text(encoding="utf-8")))
    assert named
    assert {name for name in named if name not in known} == set()


def test_every_variable_that_the_code_reads_is_told() -> None:
    told = {*settings.COMMANDS, *(f"BROKER_{name.upper()}" for name in Settings.model_fields)}
    assert settings.variables() - told == set()
    assert settings.COMMANDS.keys() - settings.variables() == set()
