"""The layout of a sealed value reads in one way only."""

from __future__ import annotations

from dataclasses import fields
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.envelope import Binding, Envelope, Malformed

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
ENVELOPES = st.builds(
    Envelope, NAMES, st.binary(max_size=80), st.binary(min_size=12, max_size=12), st.binary(min_size=16, max_size=80)
)
SAMPLE = Envelope("2026-11", b"w" * 60, b"n" * 12, b"c" * 40)
WORDS = st.text(max_size=5)
BINDINGS = st.builds(Binding, WORDS, WORDS, WORDS, st.integers(0), WORDS)


@given(ENVELOPES)
def test_the_parts_come_back(parts: Envelope) -> None:
    assert Envelope.decode(parts.encode()) == parts


@given(
    ENVELOPES.map(Envelope.encode) | st.binary(max_size=120).map(lambda data: b"\1" + data) | st.binary(max_size=120)
)
def test_decode_refuses_what_encode_would_not_print(data: bytes) -> None:
    try:
        parts = Envelope.decode(data)
    except Malformed:
        return
    assert parts.encode() == data


def test_a_value_cut_off_before_its_tag_could_be_whole_is_refused() -> None:
    data = SAMPLE.encode()
    least = len(data) - len(SAMPLE.ciphertext) + 16
    for end in range(least):
        with pytest.raises(Malformed):
            Envelope.decode(data[:end])
    assert Envelope.decode(data[:least]) == SAMPLE._replace(ciphertext=b"c" * 16)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(Malformed, match="version"):
        Envelope.decode(bytes((version,)) + SAMPLE.encode()[1:])


def test_a_key_id_that_cannot_be_is_refused() -> None:
    rest = SAMPLE.encode()[2 + len(SAMPLE.kek_id) :]
    for name in (b"", b"x" * 65, b"\xff", "é".encode()):
        with pytest.raises(Malformed):
            Envelope.decode(bytes((1, len(name))) + name + rest)


def test_a_wrapped_key_that_runs_past_the_end_is_refused() -> None:
    start = 2 + len(SAMPLE.kek_id)
    data = SAMPLE.encode()
    with pytest.raises(Malformed, match="cut off"):
        Envelope.decode(data[:start] + b"\xff\xff" + data[start + 2 :])


@pytest.mark.parametrize(
    "parts",
    [
        SAMPLE._replace(kek_id=""),
        SAMPLE._replace(kek_id="x" * 65),
        SAMPLE._replace(kek_id="é"),
        SAMPLE._replace(nonce=b"n" * 11),
        SAMPLE._replace(nonce=b"n" * 13),
    ],
)
def test_parts_that_cannot_be_are_not_printed(parts: Envelope) -> None:
    with pytest.raises(ValueError, match=r"ASCII|ascii"):
        parts.encode()


def test_the_layout_is_that_of_the_specification() -> None:
    assert SAMPLE.encode() == b"\1" + b"\x072026-11" + b"\0\x3c" + b"w" * 60 + b"n" * 12 + b"c" * 40


@given(BINDINGS, BINDINGS)
def test_two_places_never_share_their_associated_data(one: Binding, other: Binding) -> None:
    assert (one.associated_data() == other.associated_data()) == (one == other)


def test_every_field_of_a_place_is_told_apart_from_every_other() -> None:
    names = [field.name for field in fields(Binding) if field.name not in {"purpose", "version"}]
    made = [
        Binding(purpose="p", version=1, **dict(zip(names, order, strict=True))).associated_data()
        for order in permutations(("a", "b", ""))
    ]
    assert len(set(made)) == len(made) == 6
