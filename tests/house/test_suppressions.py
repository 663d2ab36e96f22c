"""A check that is switched off on a line says there why, whichever tool it is."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_CHECKED = ("broker", "migrations", "tests")
_SWITCHED_OFF = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b", re.IGNORECASE)
# What is switched off is named, and the reason is in words.
_WITH_A_REASON = re.compile(r"# (?:noqa: [A-Z]+\d+(?:, [A-Z]+\d+)* - |type: ignore\[[a-z-]+(?:,[a-z-]+)*\]  # )\S.{5,}")


def unexplained(source: str) -> Iterator[int]:
    """The lines at which a check is switched off without a reason."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found = _SWITCHED_OFF.search(token.string)
            if found and not _WITH_A_REASON.match(token.string, found.start()):
                yield token.start[0]


def test_every_check_that_is_switched_off_has_its_reason() -> None:
    files = [file for folder in _CHECKED for file in sorted((ROOT / folder).rglob("*.py"))]
    assert [f"{file.relative_to(ROOT)}:{line}" for file in files for line in unexplained(file.read_text())] == []


@pytest.mark.parametrize(
    "line",
    [
        "x  # noqa",
        "x  # noqa: S608",
        "x  # noqa: S608, S311",
        "x  # noqa: S608 no input in it",
        "x  # noqa: S608 -",
        "x  # type: ignore",
        "x  # type: ignore[misc]",
        "x  # type: ignore[misc] # authlib has no types",
        "x  # type:ignore  # authlib has no types",
        "# why  # NOQA:S608",
    ],
)
def test_none_at_all_or_one_that_reads_otherwise_is_found(line: str) -> None:
    assert list(unexplained(f"one\n{line}\n")) == [2]


@pytest.mark.parametrize(
    "line",
    [
        "x  # noqa: S608 - no input in it",
        "x  # noqa: S608, S311 - no input in it",
        "x  # type: ignore[misc]  # authlib has no types",
        "x  # type: ignore[attr-defined,no-any-return]  # of the mapped class",
        "x = '# noqa'  # a text",
    ],
)
def test_one_with_its_reason_is_not(line: str) -> None:
    assert list(unexplained(f"one\n{line}\n")) == []
