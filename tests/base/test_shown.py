"""Text from outside, as it may be shown and kept."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from broker.base.shown import INSTEAD, is_shown, shown
from broker.web.api.fields import Line, Note

ANYTHING = st.text(st.characters(exclude_categories=[]))
HIDDEN = [
    *map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)),  # C0, DEL, C1
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",  # direction of writing
    *"\u00ad\u034f\u115f\u180e\u200b\u200c\u200d\u2060\u2061\u3164\ufeff\uffa0\U000e0041",  # nothing to see
    *"\u2028\u2029", *"\ue000\uf8ff\U000f0000\U0010fffd", *"\ud800\udfff",  # separators, private use, half a character
]  # fmt: skip


@pytest.mark.parametrize("character", HIDDEN, ids=lambda one: f"U+{ord(one):04X}")
def test_what_nobody_sees_is_neither_shown_nor_accepted(character: str) -> None:
    text = f"Acme{character} Power"
    assert not is_shown(text)
    assert shown(text) == f"Acme{INSTEAD} Power"
    for field in (Line, Note):
        with pytest.raises(ValidationError):
            TypeAdapter(field).validate_python(text)


@pytest.mark.parametrize(
    "name", ["Łódź Energia", "東京\u3000電力", "Ñandú & Co. <x>", "שלום", "葛\U000e0100", "⚡\ufe0f", "a\u00a0b"]
)
def test_names_of_all_scripts_stay_as_they_are(name: str) -> None:
    assert shown(name) == name
    assert TypeAdapter(Line).validate_python(name) == name


@given(ANYTHING)
def test_what_is_shown_is_safe_as_long_as_before_and_stays(text: str) -> None:
    safe = shown(text)
    assert is_shown(safe)
    assert shown(safe) == safe
    assert len(safe) == len(text)
    safe.encode()


def test_every_character_of_those_categories_is_minded() -> None:
    for number in range(sys.maxunicode + 1):
        if unicodedata.category(chr(number)) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}:
            assert not is_shown(chr(number)), hex(number)
