"""The bytes of an audit event are RFC 8785's, and the commitment covers all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from broker.formats.audit_event import MAX_BYTES, Committed, Json, NotCanonical, commit, encode, entry_of

LARGEST = 2**53 - 1
ASCII = st.text(st.characters(max_codepoint=127), max_size=8)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ASCII, inner, max_size=4),
    max_leaves=20,
)
PARTS: st.SearchStrategy[dict[str, Json]] = st.dictionaries(ASCII, VALUES, max_size=6)


@given(PARTS)
@example({"b": 1, "a": [True, None, -0], "A": {"\x7f": "\x7f", "\0": '\0\b\t\n\f\r\x1f"\\/'}, "": ""})
@example({"words": "é€😀\u2028\ufeff\u0301", "n": LARGEST, "m": -LARGEST})
def test_the_bytes_are_those_of_rfc_8785(part: dict[str, Json]) -> None:
    assert encode(part) == rfc8785.dumps(part)


@given(PARTS)
def test_the_bytes_read_as_the_same_document_and_print_the_same_again(part: dict[str, Json]) -> None:
    read = json.loads(encode(part))
    assert read == part
    assert encode(read) == encode(part)


@given(PARTS)
def test_the_order_in_which_keys_were_set_does_not_matter(part: dict[str, Json]) -> None:
    assert encode(dict(reversed(part.items()))) == encode(part)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        -0.0,
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        10**400,
        b"bytes",
        ("tuple",),
        {"set"},
        object(),
        "\ud800",
        {"é": 1},
        {"😀": 1},
        {"\ud800": 1},
        {1: "number"},
        {None: "none"},
        {b"a": 1},
    ],
    ids=lambda value: ascii(value)[:20] if type(value) is not object else "object",
)
def test_a_value_outside_the_profile_is_refused_at_any_depth(value: Any) -> None:
    parts: list[dict[str, Any]] = [{"a": value}, {"a": [1, value]}, {"a": {"b": [{"c": value}]}}]
    for part in parts:
        with pytest.raises(NotCanonical):
            encode(part)


@given(st.floats())
def test_no_float_is_canonical(value: float) -> None:
    with pytest.raises(NotCanonical, match="float"):
        encode({"a": value})  # type: ignore[dict-item]  # that is the test


def test_a_part_of_exactly_the_cap_is_the_largest() -> None:
    most = "x" * (MAX_BYTES - len(b'{"a":""}'))
    assert len(encode({"a": most})) == MAX_BYTES
    with pytest.raises(NotCanonical, match="capped"):
        encode({"a": most + "x"})


@given(PARTS, PARTS, st.binary(min_size=64, max_size=64))
def test_the_entry_follows_from_what_is_stored(core: dict[str, Json], personal: dict[str, Json], salts: bytes) -> None:
    made = commit(core, personal, salts)
    assert (made.core, made.personal) == (encode(core), encode(personal))
    assert made.salt_core + made.salt_personal == salts
    assert made.entry == entry_of(made.core, made.salt_core, made.personal, made.salt_personal)
    assert commit(core, personal, salts) == made


def test_fresh_salts_hide_equal_events_from_each_other() -> None:
    made = [commit({"a": 1}, {"ip": "192.0.2.1"}) for _ in range(10)]
    assert all(len(one.salt_core) == len(one.salt_personal) == len(one.entry) == 32 for one in made)
    assert (
        len({one.entry for one in made})
        == len({one.salt_core for one in made} | {one.salt_personal for one in made}) / 2
    )


def changed(made: Committed) -> list[bytes]:
    """The entries of everything that differs from ``made`` in one bit of one part."""
    parts = (made.core, made.salt_core, made.personal, made.salt_personal)
    entries = []
    for place, part in enumerate(parts):
        flipped = [*parts]
        flipped[place] = bytes((part[0] ^ 1,)) + part[1:]
        entries.append(entry_of(*flipped))
    return entries


@given(PARTS, PARTS)
def test_a_change_to_any_stored_part_changes_the_entry(core: dict[str, Json], personal: dict[str, Json]) -> None:
    made = commit(core, personal)
    swapped = entry_of(made.personal, made.salt_personal, made.core, made.salt_core)
    entries = [made.entry, swapped, *changed(made)]
    assert len(set(entries)) == len(entries)


def test_the_entry_is_that_of_the_specification() -> None:
    made = commit({"b": 1, "a": "x"}, {}, bytes(range(64)))
    assert made.core == b'{"a":"x","b":1}'
    assert made.personal == b"{}"
    assert made.entry.hex() == "998b5bc6bb969c1c62793aad8e09f729fcdae530846f6547f2f214c7c8973c8e"
