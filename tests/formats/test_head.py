"""How far the record was, as it is kept outside of the database."""

from __future__ import annotations

import pytest

from broker.formats.head import Head, Unreadable

HEAD = Head(series=1_764_000_000_000, size=49, time=1_764_000_001_234, entry=bytes(range(32)))
TEXT = (
    '{"v": 1, "series": 1764000000000, "size": 49, "time": 1764000001234, '
    '"entry": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}'
)


def test_a_head_is_written_and_read_as_ever() -> None:
    assert HEAD.encode() == TEXT
    assert Head.decode(TEXT) == HEAD


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", TEXT[:-20], TEXT.replace('"v": 1', '"v": 2'), "\x00"])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        Head.decode(text)


@pytest.mark.parametrize("member", ["series", "size", "time"])
@pytest.mark.parametrize("number", [-1, 253_402_300_800_000, 2**63, 2**70])
def test_no_head_holds_what_no_refusal_could_name(member: str, number: int) -> None:
    """Whoever may write where it is kept: the broker starts or says what to do, and doesn't fail."""
    present = getattr(HEAD, member)
    with pytest.raises(Unreadable):
        Head.decode(TEXT.replace(f'"{member}": {present}', f'"{member}": {number}'))


def test_a_later_series_is_after_any_number_of_the_one_before() -> None:
    assert Head(2, 1, 0, b"").is_after(Head(1, 900, 0, b""))
    assert not HEAD.is_after(HEAD)
