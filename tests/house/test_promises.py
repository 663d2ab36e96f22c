"""Every claim of SECURITY.md names what shows it, and what it names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.house.named import found_in

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
# Nobody is kept from anything here, and the rows say so.
_NOT_HELD = {"the master key file alone", "database and master keys, or the running process"}


class Claim(NamedTuple):
    """A row of a table: whom or what it is about, and what its last column names."""

    about: str
    named: tuple[str, ...]


def claims(text: str) -> Iterator[Claim]:
    """The rows of the tables whose last column is for tests."""
    shows = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells or cells[-1] in {"shown by", "test"}:
            shows = bool(cells)
        elif shows and cells[0].strip("-"):
            yield Claim(cells[0].replace("*", ""), tuple(re.findall(r"`([^`]+)`", cells[-1])))


def missing(found: list[Claim]) -> list[str]:
    """What is named and isn't there.

    A name is ``room/``, ``file.py``, ``file.py::test``, or ``…end`` of exactly one test in the file or room named last
    before it.
    """
    absent, place = [], TESTS
    for claim in found:
        for name in claim.named:
            path, _, test = name.partition("…") if "…" in name else name.partition("::")
            place = TESTS / path if path else place
            known = found_in(place) if place.exists() else frozenset()
            there = any(one.endswith(test) for one in known) if "…" in name else test in known if test else bool(known)
            if not there:
                absent.append(f"{claim.about}: {name}")
    return absent


def test_every_claim_names_tests_that_exist() -> None:
    found = list(claims((ROOT / "SECURITY.md").read_text()))
    assert len(found) >= 80
    unproven = {claim.about for claim in found if not claim.named}
    assert unproven == _NOT_HELD
    assert missing(found) == []


def test_a_row_whose_test_is_not_there_is_found() -> None:
    text = """
| threat | defence | test |
|---|---|---|
| a | b | `house/test_promises.py::test_a_row_whose_test_is_not_there_is_found`, `…that_exist` |
| c | d | `house/test_promises.py::test_gone`, `house/test_gone.py`, `gone/`, `…test` |
| e | f | – |
"""
    found = list(claims(text))
    assert [claim.about for claim in found] == ["a", "c", "e"]
    assert missing(found) == [
        "c: house/test_promises.py::test_gone",
        "c: house/test_gone.py",
        "c: gone/",
        "c: …test",
    ]
    assert found[2].named == ()
