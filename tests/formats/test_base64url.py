"""Base64url: one text for the same bytes, and nothing else is read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import broker
from broker.formats import base64url

# What reads or writes another form: padded cursors, and tokens of others, hidden from commands however they're spelled.
_OTHER_FORMS = {"formats/base64url.py", "web/api/fields.py", "client/platform/claims.py"}


@given(st.binary(max_size=100))
def test_every_bytes_come_back(data: bytes) -> None:
    assert base64url.decode(base64url.encode(data)) == data


@pytest.mark.parametrize(
    ("data", "text"), [(b"", ""), (b"f", "Zg"), (b"foobar", "Zm9vYmFy"), (b"\xfb\xff\xfe", "-__-")]
)
def test_it_is_the_alphabet_for_addresses_without_padding(data: bytes, text: str) -> None:
    assert base64url.encode(data) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Zg==", "padding"),
        ("Zh", "bits that don't count are set"),
        ("Z", "no whole byte"),
        ("Zm9v+/8", "the other alphabet"),
        ("Zm 9v", "a blank"),
        ("Zm9v\n", "a line's end"),
        ("Zm9vé", "not ASCII"),
    ],
)
def test_another_spelling_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds, and no word of them is shown
        base64url.decode(text)


def test_no_other_module_has_one_of_its_own() -> None:
    rooms = Path(broker.__file__).parent
    by_hand = {
        path.relative_to(rooms).as_posix()
        for path in rooms.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr.startswith("urlsafe_b64"))
        or (isinstance(node, ast.keyword) and node.arg == "altchars")
    }
    assert by_hand == _OTHER_FORMS
