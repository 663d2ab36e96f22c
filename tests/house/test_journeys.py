"""The map's journeys: each numbered step is marked where it happens, and a reader opens few modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import broker
from broker.proxy import call

ROOT = Path(broker.__file__).parent
_JOURNEY = re.compile(r"^\*(?P<word>[a-z]+)\*: (?P<what>[^\n]+)\n\n(?P<steps>(?:    [^\n]+\n)+)", re.MULTILINE)
_STEP = re.compile(r"^    (?P<number>\d+)\s+(?P<file>[a-z_]+(?:/[a-z_]+)*)  +\S", re.MULTILINE)
# How many modules a reader of a journey opens at most.
MOST = {"call": 15, "lease": 14, "submission": 14, "rotation": 13}


def journeys() -> dict[str, list[tuple[int, str]]]:
    """The steps of each journey, as the map tells them: number and file."""
    told = broker.__doc__ or ""
    return {
        found["word"]: [(int(step["number"]), step["file"]) for step in _STEP.finditer(found["steps"])]
        for found in _JOURNEY.finditer(told)
    }


def marks(word: str) -> set[tuple[int, str]]:
    """Where the code says ``# WORD (n)``: number and file."""
    mark = re.compile(rf"# {word} \((\d+)\)")
    return {
        (int(number), str(path.relative_to(ROOT).with_suffix("")))
        for path in ROOT.rglob("*.py")
        for number in mark.findall(path.read_text())
    }


def test_the_map_tells_all_four_journeys() -> None:
    assert list(journeys()) == list(MOST)


@pytest.mark.parametrize("word", MOST)
def test_steps_are_numbered_in_order(word: str) -> None:
    numbers = [number for number, _ in journeys()[word]]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("word", MOST)
def test_each_step_is_marked_in_the_file_that_the_map_names_and_nowhere_else(word: str) -> None:
    assert marks(word) == set(journeys()[word])


def test_what_tells_the_order_of_a_call_tells_it_as_the_map_does() -> None:
    steps = _STEP.findall(call.__doc__ or "")
    assert [(int(number), file) for number, file in steps] == journeys()["call"]


@pytest.mark.parametrize("word", MOST)
def test_a_reader_of_a_journey_opens_few_modules(word: str) -> None:
    assert len({file for _, file in journeys()[word]}) <= MOST[word]
