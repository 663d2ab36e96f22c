"""Same-organization evidence out of whatever an upstream answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.providers import catalog
from broker.providers.definition import Definition
from broker.providers.identity import evidence
from tests.providers.files import definition

RAPTOR = catalog.load().get("raptor-comply")
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("id"), inner),
    max_leaves=20,
)


def _at(directory: Path, path: str) -> Definition:
    return definition(directory, ('path = "[].id"', f'path = "{path}"'))


@pytest.mark.parametrize(
    ("path", "answer", "ids"),
    [
        ("[].id", [{"id": "fac_1"}, {"id": "fac_2"}, {"name": "no id"}], {"fac_1", "fac_2"}),
        ("[].id", [], set()),
        ("[].id", {"id": "fac_1"}, set()),
        ("id", {"id": 583231}, {"583231"}),
        ("id", {"id": True}, set()),
        ("id", {"id": 1.5}, set()),
        ("id", {"id": ""}, set()),
        ("id", {"id": ["a"]}, set()),
        ("account.id", {"account": {"id": "acct_1"}}, {"acct_1"}),
        ("account.id", {"account": None}, set()),
        (
            "data[].organization.id",
            {"data": [{"organization": {"id": "a"}}, {"organization": {"id": "b"}}]},
            {"a", "b"},
        ),
        ("[][]", [["a"], ["b", "c"]], {"a", "b", "c"}),
        ("id", {"id": "x" * 200}, {"x" * 200}),
        ("id", {"id": "x" * 201}, set()),
        ("id", {"id": "a\0b"}, set()),
        ("id", {"id": "\ud800"}, set()),
    ],
)
def test_ids_are_found_at_the_declared_path(path: str, answer: Any, ids: set[str], tmp_path: Path) -> None:
    assert evidence(_at(tmp_path, path), json.dumps(answer).encode()) == (frozenset(ids), True)


def test_at_most_a_thousand_ids_are_kept_and_more_are_a_part() -> None:
    for count, kept, whole in ((1_000, 1_000, True), (1_001, 1_000, False)):
        answer = json.dumps([{"id": f"fac_{number}"} for number in range(count)]).encode()
        ids, all_of_them = evidence(RAPTOR, answer)
        assert (len(ids), all_of_them) == (kept, whole)


@pytest.mark.parametrize(("following", "whole"), [("c2", False), (True, False), (2, False), ("", True), (None, True)])
def test_an_answer_that_names_another_one_is_a_part(following: Any, whole: bool, tmp_path: Path) -> None:
    declared = _at(tmp_path, 'data[].id"\nnext = "meta.next')
    answer = json.dumps({"data": [{"id": "a"}], "meta": {"next": following}}).encode()
    assert evidence(declared, answer) == (frozenset({"a"}), whole)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff\xfe\x00", b"[" * 100_000, b'[{"id":' + b"9" * 10_000 + b"}]", b"\x00" * 7, b'[{"id": "a"}'],
    ids=["empty", "html", "bytes", "deep", "huge number", "nul", "cut off"],
)
def test_an_answer_that_is_not_json_gives_no_evidence(body: bytes) -> None:
    assert evidence(RAPTOR, body) == (frozenset(), True)


@given(ANY_JSON)
def test_any_json_gives_ids_that_can_be_stored(answer: Any) -> None:
    for found in evidence(RAPTOR, json.dumps(answer).encode())[0]:
        assert 0 < len(found) <= 200
        assert found.encode().decode() == found
        assert "\0" not in found


@given(st.binary(max_size=64))
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    ids, _whole = evidence(RAPTOR, body)
    assert all(found.isprintable() for found in ids)


def test_a_provider_without_identity_has_no_evidence() -> None:
    assert evidence(catalog.load().get("openai"), b'[{"id": "a"}]') == (frozenset(), True)
