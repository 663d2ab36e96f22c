"""What a key looks like, and where it goes without showing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.errors import Invalid
from broker.base.secret import Secret
from broker.providers import catalog
from broker.providers.pattern import shape
from tests.providers.files import BASIC, QUERY, definition

UNKNOWN_PATTERNS = st.text("^$ab01-[]{}(),?:|*+.\\ d/", max_size=14) | st.from_regex(
    r"\^(\[[a-c0-2_-]{1,4}\](\{[0-3](,[0-4])?\})?|[ab]|\(\?:(a|b|ab)\|(c|bc)\)\??){1,4}\$", fullmatch=True
)


@pytest.mark.parametrize(
    ("pattern", "shortest", "longest"),
    [
        ("^rc_live_[A-Za-z0-9]{64}$", 72, 72),
        ("^(?:rk|sk)_(?:live|test)_[A-Za-z0-9]{16,240}$", 24, 248),
        (r"^SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}$", 69, 69),
        ("^a?b(?:c[0-9]{2}|d)?$", 1, 5),
        (r"^[\]\[\\\-\^]{3}$", 3, 3),
    ],
)
def test_a_pattern_tells_how_long_a_key_is(pattern: str, shortest: int, longest: int) -> None:
    found = shape(pattern)
    assert (found.shortest, found.longest) == (shortest, longest)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "^$",
        "^a?$",
        "abc",
        "^abc",
        r"^abc\$",
        "^a|b$",
        "^(?:a|)$",
        "^(a)$",
        "^(?:a$",
        "^a)$",
        "^(?=a)a$",
        "^(?P<n>a)$",
        "^(?i:a)$",
        r"^a\1$",
        r"^\d{4}$",
        r"^\w$",
        r"^[\w]{4}$",
        r"^\bA$",
        r"^\u0041$",
        r"^a\_$",
        "^.$",
        "^a.b$",
        "^[^a]$",
        "^[]$",
        "^[a$",
        "^[-a]$",
        "^[a-Z]$",
        "^[z-a]$",
        "^[aa]$",
        "^[a-za]$",
        "^[a&&b]$",
        "^[[a]]$",
        "^[é]$",
        "^[ ]$",
        "^é$",
        "^ $",
        "^a b$",
        "^a\n$",
        "^a*$",
        "^a+$",
        "^a{2,}$",
        "^a{,2}$",
        "^a{2,1}$",
        "^a{0}$",
        "^a{1}{2}$",
        "^a??$",
        "^a{2}?{3}$",
        "^(?:a){3}$",
        "^(?:a{1,9})+$",
        "^(?:aa|ab)$",
        "^[a-z]{1,9}[a-z]$",
        "^[a-z]?[a-z]$",
        "^(?:[a-z]{1,9}-?)a$",
        "^a?b?a$",
        "^a{5000}$",
        "^[a-z]{4000}[0-9]{4000}$",
    ],
    ids=ascii,
)
def test_a_pattern_that_may_be_slow_or_read_otherwise_elsewhere_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^(?:must|has|repeats|can|names) "):
        shape(pattern)


@given(UNKNOWN_PATTERNS, st.data())
def test_a_pattern_is_refused_or_its_shape_is_true(pattern: str, data: st.DataObject) -> None:
    try:
        found = shape(pattern)
    except ValueError:
        return
    text = data.draw(st.from_regex(pattern, fullmatch=True) | st.text(max_size=8))
    assert all("!" <= character <= "~" for character in found.alphabet)
    if re.fullmatch(pattern, text):
        assert found.shortest <= len(text) <= found.longest
        assert set(text) <= found.alphabet


@pytest.mark.parametrize("placement", ["header", "query", "basic"])
def test_a_placed_key_does_not_print(placement: str, tmp_path: Path) -> None:
    changes = {"header": [], "query": [QUERY], "basic": [(BASIC[0], f'{BASIC[1]}\nusername = "{{key}}"')]}[placement]
    key = "ex_" + "q" * 20
    placed = definition(tmp_path, *changes).place(Secret(key))
    sent = str((placed.headers, placed.query))
    hidden = [key, "Bearer", "Basic"]
    assert any(text in sent for text in hidden)
    for shown in (repr(placed), str(placed), f"{placed}", f"{placed!r}", repr([placed])):
        assert not any(text in shown for text in hidden)


@pytest.mark.parametrize("key", [b"", b"a\r\nX: y", b"a b", b"a\0", "é".encode(), b"\xff\xfe", b"a\n"], ids=ascii)
def test_a_key_that_could_end_its_header_is_not_placed(key: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        catalog.load().get("raptor-comply").place(Secret(key))
    assert refused.value.__cause__ is None


def test_a_definition_cannot_be_changed_once_it_was_checked() -> None:
    github = catalog.load().get("github")
    with pytest.raises(ValueError, match="frozen"):
        github.title = "Other"  # type: ignore[misc]  # that is the test
