"""Every claim of SECURITY.md names what shows it, and what it names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.house.named import found_in

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
# Nobody is kept from anything here, and the lines say so.
_NOT_HELD = {"The master key file alone", "Database and master keys, or the running process"}
_LINE_MOST = 240


class Claim(NamedTuple):
    """What stands under a heading: what it is about, its lines, and the tests that it names."""

    about: str
    lines: tuple[str, ...]
    named: tuple[str, ...]


def claims(text: str) -> Iterator[Claim]:
    """What is claimed seat by seat and theme by theme.

    A theme is a heading with nothing of its own below, so no claim.
    """
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        if part.startswith(("Seat by seat\n", "Defences by theme\n")):
            for section in re.split(r"^#{3,4} ", part, flags=re.MULTILINE)[1:]:
                about, _, said = section.partition("\n")
                if said.strip():
                    yield _claim(about, said)


def _claim(about: str, said: str) -> Claim:
    paragraphs = [" ".join(one.split()) for one in re.split(r"\n\n|^- ", said, flags=re.MULTILINE) if one.strip()]
    shown = [one for one in paragraphs if one.startswith("Shown by ")]
    return Claim(
        about,
        tuple(one for one in paragraphs if one not in shown),
        tuple(re.findall(r"`([^`]+)`", " ".join(shown))),
    )


def missing(found: list[Claim]) -> list[str]:
    """What is named and isn't there.

    A name is ``room/``, ``file.py``, ``file.py::test_name``, or ``…name``: ``test_name`` in the claim's file before it.
    """
    absent = []
    for claim in found:
        place = TESTS
        for name in claim.named:
            path, _, test = name.replace("…", "::test_", 1).partition("::")
            place = TESTS / path if path else place
            known = found_in(place) if place.exists() else frozenset()
            if not (test in known and place.is_file() if test else known):
                absent.append(f"{claim.about}: {name}")
    return absent


def test_every_claim_names_tests_that_exist() -> None:
    found = list(claims((ROOT / "SECURITY.md").read_text()))
    assert len(found) >= 125
    unproven = {claim.about for claim in found if not claim.named}
    assert unproven == _NOT_HELD
    assert missing(found) == []


def test_every_claim_is_made_of_short_lines() -> None:
    found = list(claims((ROOT / "SECURITY.md").read_text()))
    assert [claim.about for claim in found if not claim.lines] == []
    assert [line for claim in found for line in claim.lines if len(line) > _LINE_MOST] == []
    assert len({claim.about for claim in found}) == len(found)


SAMPLE = """
## What is protected

### Not a claim

Shown by nothing.

## Defences by theme

### A theme

#### A threat

- One defence.
- Another, over
  two lines.

Shown by `house/test_promises.py::test_a_claim_is_read_with_its_lines_and_tests`,
`…a_claim_whose_test_is_not_there_is_found` (a note).

#### Gone

- A defence.

Shown by `house/test_promises.py::test_gone`, `house/test_gone.py`, `gone/`, `…a_name`, `house/test_promises.py`,
`…found`, `house/`, `…a_claim_is_read_with_its_lines_and_tests`,
`house/test_documents.py::test_every_claim_is_made_of_short_lines`.

#### Nobody's

- See above.

#### Without a file

- The file of another claim is not meant.

Shown by `…a_claim_is_read_with_its_lines_and_tests`.
"""


def test_a_claim_is_read_with_its_lines_and_tests() -> None:
    first, _, third, _ = claims(SAMPLE)
    assert first.about == "A threat"
    assert first.lines == ("One defence.", "Another, over two lines.")
    assert first.named == (
        "house/test_promises.py::test_a_claim_is_read_with_its_lines_and_tests",
        "…a_claim_whose_test_is_not_there_is_found",
    )
    assert third == ("Nobody's", ("See above.",), ())


def test_a_claim_whose_test_is_not_there_is_found() -> None:
    assert missing(list(claims(SAMPLE))) == [
        "Gone: house/test_promises.py::test_gone",
        "Gone: house/test_gone.py",
        "Gone: gone/",
        "Gone: …a_name",
        "Gone: …found",
        "Gone: …a_claim_is_read_with_its_lines_and_tests",
        "Gone: house/test_documents.py::test_every_claim_is_made_of_short_lines",
        "Without a file: …a_claim_is_read_with_its_lines_and_tests",
    ]
