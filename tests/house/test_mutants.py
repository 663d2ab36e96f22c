"""The list of ``make mutants`` fits the code, so that it can't rot between its runs."""

from __future__ import annotations

from tests.house.named import found_in
from tests.mutants.kept import ROOT, kept

ROOMS = {
    "audit", "base", "care", "credentials", "grants", "identity", "intake", "issuers", "keystore", "leaks", "leases",
    "notifications", "proxy", "rotations", "web",
}  # fmt: skip


def test_every_mutant_can_still_be_made() -> None:
    for mutant in kept():
        text = (ROOT / mutant.file).read_text()
        assert mutant.applied(text) != text, mutant.name


def test_the_tests_of_every_mutant_are_there() -> None:
    for mutant in kept():
        assert mutant.tests, mutant.name
        for named in mutant.tests:
            path, _, test = named.partition("::")
            there = found_in(ROOT / "tests" / path)
            assert test in there if test else there, f"{mutant.name}: {named}"


def test_each_is_there_once_and_every_room_has_some() -> None:
    mutants = kept()
    assert len(mutants) >= 150
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    assert {mutant.room for mutant in mutants} >= ROOMS


def test_those_that_survive_say_why_and_are_few() -> None:
    surviving = [mutant for mutant in kept() if mutant.survives]
    assert all(len(mutant.survives) > 20 for mutant in surviving)
    assert len(surviving) <= 0.03 * len(kept())
