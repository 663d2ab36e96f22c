"""Ids name their kind and sort by creation."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats import ids


@pytest.mark.parametrize("kind", ids.PREFIXES)
def test_a_new_id_is_one_of_its_kind_and_of_no_other(kind: Callable[[str], str]) -> None:
    made = ids.new(kind)
    assert [each for each in ids.PREFIXES if ids.is_id(made, each)] == [kind]
    assert made.startswith(f"{ids.PREFIXES[kind]}_")
    assert uuid.UUID(made[4:]).version == 7


def test_ids_sort_by_creation() -> None:
    made = [ids.new(ids.AuditEventId) for _ in range(2_000)]
    assert made == sorted(set(made))


def test_an_id_comes_after_the_first_of_its_time_and_before_that_of_the_next() -> None:
    made = ids.new(ids.UseId)
    time = uuid.UUID(made[4:]).int >> 80
    assert ids.first_at(ids.UseId, time) <= made < ids.first_at(ids.UseId, time + 1)


def test_no_two_kinds_have_one_prefix() -> None:
    assert len(set(ids.PREFIXES.values())) == len(ids.PREFIXES)


@pytest.mark.parametrize("kind", [str, ids.Reference, str.upper])
def test_what_has_no_prefix_makes_no_id(kind: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="no id prefix"):
        ids.new(kind)


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text.upper(),
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("_", "-"),
        lambda text: text[:-1] + "g",
        lambda text: text[:-1] + "٣",
        lambda text: text[4:],
        lambda text: "org_" + str(uuid.UUID(text[4:])),
    ],
)
def test_another_spelling_is_no_id(alter: Callable[[str], str]) -> None:
    assert not ids.is_id(alter(ids.new(ids.OrganizationId)), ids.OrganizationId)


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    assert not ids.is_id(text, ids.OrganizationId) or len(text) == 36
