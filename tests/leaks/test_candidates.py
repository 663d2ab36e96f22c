"""What looks like a key is found wherever it stands, once, and its place is right."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.leaks import candidates
from broker.leaks.candidates import Declared, Finder, scan
from broker.leaks.patterns import declared
from broker.providers.pattern import beginnings

KEY = b"rc_live_" + b"k9Zq" * 16
SHORT = b"sk-" + b"k9Zq" * 8
NUMBER = b"0a1b2c3d" * 4
FINDER = Finder(declared())


def found(data: bytes) -> list[tuple[int, int, int, str, bytes]]:
    return [tuple(hit) for hit in scan(FINDER, io.BytesIO(data))]  # type: ignore[misc]


@given(before=st.binary(max_size=200), after=st.binary(max_size=200))
def test_a_planted_key_is_found_once_at_its_place(before: bytes, after: bytes) -> None:
    # an unbroken word around it would be another word
    data = before + b"\n" + KEY + b"\n" + after
    hits = [hit for hit in scan(FINDER, io.BytesIO(data)) if hit.text == KEY]
    (hit,) = hits
    assert hit.offset == len(before) + 1
    assert hit.line == before.count(b"\n") + 2
    assert hit.column == 1


@given(at=st.integers(0, 3_000), gap=st.integers(1, 50))
def test_no_window_border_loses_or_doubles_a_key(at: int, gap: int) -> None:
    data = b"x" * at + b" " + KEY + b"\n" * gap + KEY + b" " + b"y" * 500
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "_CHUNK", 97)
        patched.setattr(candidates, "LONGEST", 80)
        hits = list(scan(FINDER, io.BytesIO(data)))
    assert [hit.offset for hit in hits] == [at + 1, at + 1 + len(KEY) + gap]
    assert [(hit.line, hit.column) for hit in hits] == [(1, at + 2), (gap + 1, 1)]


@pytest.mark.parametrize(
    "around",
    [
        'key = "%s"',
        "X-API-Key: %s",
        "https://x.example/?key=%s&a=1",
        '{"key":"%s"}',
        "%s",
        "`%s`,",
        "<k>%s</k>",
        "k=%s;",
    ],
)
def test_a_key_is_found_in_what_people_write_it_into(around: str) -> None:
    assert [hit[4] for hit in found(around.encode() % KEY)] == [KEY]


@pytest.mark.parametrize(
    "data",
    [
        *(KEY + b"x", KEY[:-1], KEY.upper(), b"rc_live_" * 20),
        *(b"x" + SHORT, b"-" + SHORT, b"a-" + SHORT, b"task-list-of-everything-that-there-is"),
        *(b"DATADOG_API_KEY=x" + NUMBER, b"DATADOG_API_KEY=" + NUMBER + b"0"),
    ],
)
def test_what_is_only_part_of_a_longer_word_is_no_key(data: bytes) -> None:
    assert found(data) == []


@pytest.mark.parametrize(
    "before",
    [
        rb"first line\n",
        rb"a\tb\t",
        rb"\r",
        rb"\x3d",
        rb"\u003d",
        b"token%3D",
        b"\x1b[31m",
        b"\x1b[1;38;5;208m",
        b"curl -u",
    ],
)
@pytest.mark.parametrize("key", [b"rc_live_" + b"k9Zq" * 16, b"sk-" + b"k9Zq" * 8, b"0a1b2c3d" * 4])
def test_a_key_is_found_right_after_what_only_looks_like_a_part_of_its_word(before: bytes, key: bytes) -> None:
    assert [hit[4] for hit in found(b"datadog: " + before + key + b"\x1b[0m")] == [key]


def test_a_beginning_that_is_no_end_of_a_word_needs_nothing_before_it() -> None:
    assert [hit[4] for hit in found(b"myprefix" + KEY)] == [KEY]


@pytest.mark.parametrize(
    ("provider", "line"),
    [
        ("datadog", b"DATADOG_API_KEY=" + b"0a1b2c3d" * 4),
        ("datadog", b"  datadog:\n    unrelated\n# DataDog key: " + b"0a1b2c3d" * 4),
        ("datadog", b"export DD_API_KEY=" + b"0a1b2c3d" * 4),
        ("datadog", b"api_key: " + b"0a1b2c3d" * 4),
        ("datadog", b"-H 'DD-API-KEY: " + b"0a1b2c3d" * 4),
        ("sendgrid", b"SG." + b"a" * 22 + b"." + b"B" * 43),
        ("stripe", b"sk_live_" + b"a1" * 12),
        ("github", b"github_pat_" + b"A" * 82),
    ],
)
def test_every_providers_form_is_known(provider: str, line: bytes) -> None:
    assert [hit[3] for hit in found(line)] == [provider]


def test_a_bare_number_is_a_candidate_only_beside_its_providers_name() -> None:
    assert found(b"commit " + b"0a1b2c3d" * 4) == []
    assert found(b"datadog is fine\n" + b"0a1b2c3d" * 4) == [], "not on another line"


@pytest.mark.parametrize("one", declared(), ids=lambda one: one.provider)
def test_a_beginning_belongs_to_every_key_of_its_form(one: Declared) -> None:
    @given(text=st.from_regex(re.compile(one.pattern[:-1] + r"\Z", re.ASCII)))
    def every(text: str) -> None:
        assert text.startswith(beginnings(one.pattern))

    every()


class _Broken(io.BytesIO):
    def read1(self, size: int | None = -1) -> bytes:
        if not (data := super().read1(min(size or 30, 30))):
            raise OSError("broken")
        return data


def test_what_came_before_a_stream_broke_is_found() -> None:
    hits = scan(FINDER, _Broken(KEY + b"\n" + KEY))
    assert [next(hits).line, next(hits).line] == [1, 2]
    with pytest.raises(OSError, match="broken"):
        next(hits)


def test_what_is_shown_of_a_key_is_not_the_key() -> None:
    (hit,) = scan(FINDER, io.BytesIO(KEY))
    assert hit.masked == "rc_live_…" + KEY[-4:].decode()
