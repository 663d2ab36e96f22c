"""A list of fields has one spelling in bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.formats import canonical
from broker.formats.canonical import Malformed, decode, encode

FIELDS = st.lists(st.binary(max_size=40) | st.text(max_size=20) | st.integers(), max_size=8)


def as_bytes(field: bytes | str | int) -> bytes:
    return field if isinstance(field, bytes) else str(field).encode()


@given(FIELDS)
def test_fields_come_back_as_their_bytes(fields: list[bytes | str | int]) -> None:
    assert decode(encode(*fields)) == [as_bytes(field) for field in fields]


@given(st.lists(st.binary(max_size=4), max_size=5), st.lists(st.binary(max_size=4), max_size=5))
@example([b"ab", b"c"], [b"a", b"bc"])
@example([b""], [])
@example([encode("a", "b")], [b"a", b"b"])
def test_two_lists_never_share_their_bytes(one: list[bytes], other: list[bytes]) -> None:
    assert (encode(*one) == encode(*other)) == (one == other)


@given(st.binary(max_size=60) | FIELDS.map(lambda fields: encode(*fields)[:-1]))
def test_decode_refuses_what_encode_would_not_print(data: bytes) -> None:
    try:
        fields = decode(data)
    except Malformed:
        return
    assert encode(*fields) == data


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.data())
def test_a_list_cut_within_a_field_is_refused(fields: list[bytes], data: st.DataObject) -> None:
    whole = encode(*fields)
    starts = {len(encode(*fields[:count])) for count in range(len(fields) + 1)}
    cut = data.draw(st.sampled_from([end for end in range(len(whole)) if end not in starts]))
    with pytest.raises(Malformed):
        decode(whole[:cut])


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xffabc", encode("a") + b"\0"])
def test_a_length_past_the_end_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match="cut off"):
        decode(data)


def test_the_bytes_are_those_of_the_specification() -> None:
    assert encode("é", b"\0", 1730000000000) == b"\0\0\0\2\xc3\xa9" + b"\0\0\0\1\0" + b"\0\0\0\x0d1730000000000"
    assert canonical.encode() == b""
