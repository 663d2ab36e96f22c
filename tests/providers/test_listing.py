"""How a provider file says that a list goes on, and what of an answer is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from broker.providers.key_api import Listed, Listing, Pages

PAGED = Listing(path="/keys?limit=2", items="data[]", pages=Pages(parameter="cursor", next="meta.next"))


def read(answer: Any, listing: Listing = PAGED) -> Listed | None:
    return listing.read(json.dumps(answer).encode(), "ours")


def test_whether_a_list_goes_on_has_to_be_said() -> None:
    for more in ({}, {"one_answer": True, "pages": {"parameter": "cursor", "next": "next"}}):
        with pytest.raises(ValidationError, match="wrong together"):
            Listing.model_validate({"path": "/keys", "items": "[]", **more})


@pytest.mark.parametrize(
    ("following", "path"),
    [
        ("a b&c", "/keys?limit=2&cursor=a+b%26c"),
        (2, "/keys?limit=2&cursor=2"),
        (None, ""),
        ("", ""),
        (False, ""),
    ],
)
def test_the_next_answer_is_asked_for_as_this_one_says(following: Any, path: str) -> None:
    answer = {"data": [{"id": "k1", "name": "ours"}, {"id": "k2", "name": "x"}], "meta": {"next": following}}
    assert read(answer) == Listed(["k1"], path)


def test_an_answer_without_a_name_for_the_next_is_the_last() -> None:
    assert read({"data": []}) == Listed([], "")


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [], "meta": {"next": {"cursor": "x"}}},
        {"data": [], "meta": {"next": True}},
        {"data": [], "meta": {"next": "x" * 3_000}},
        {"data": {"id": "k1"}},
        {"error": "try later"},
        [],
    ],
    ids=["next is an object", "next has no name", "next is too long", "no list", "an error", "another list"],
)
def test_what_can_not_be_read_to_its_end_is_no_list(answer: Any) -> None:
    assert read(answer) is None


def test_what_is_not_json_is_no_list() -> None:
    assert Listing(path="/keys", items="[]", one_answer=True).read(b"<html>", "ours") is None
