"""What looks like a key is found wherever it stands, once, and its place is right."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.leaks import candidates, views
from broker.leaks.candidates import Declared, Finder, Hit, scan
from broker.leaks.edges import may_begin
from broker.leaks.patterns import declared
from broker.leaks.views import packed
from broker.providers.pattern import beginnings
from broker.providers.recognition import BEFORE

KEY = b"rc_live_" + b"k9Zq" * 16
SHORT = b"sk-" + b"k9Zq" * 8
NUMBER = b"0a1b2c3d" * 4
FINDER = Finder(declared())


def found(data: bytes) -> list[Hit]:
    """What is shown to people, asked about or not."""
    return [hit for hit in scan(FINDER, io.BytesIO(data)) if hit.sure]


def asked(data: bytes) -> set[bytes]:
    """All that the broker is asked about."""
    return {text for hit in scan(FINDER, io.BytesIO(data)) for text in (hit.text, *hit.readings)}


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
    data = b"x " * (at // 2) + b" " * (at % 2) + b" " + KEY + b"\n" * gap + KEY + b" " + b"y" * 500
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "_CHUNK", 97)
        patched.setattr(candidates, "LONGEST", 80)
        patched.setattr(candidates, "_WRITTEN", 1)
        hits = list(scan(FINDER, io.BytesIO(data)))
    assert [hit.offset for hit in hits] == [at + 1, at + 1 + len(KEY) + gap]
    assert [(hit.line, hit.column) for hit in hits] == [(1, at + 2), (gap + 1, 1)]


@given(at=st.integers(0, 600), gap=st.integers(1, 70))
def test_nor_parts_one_from_the_name_that_tells_it(at: int, gap: int) -> None:
    named = b"datadog" + b" " * gap
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "_CHUNK", 97)
        patched.setattr(candidates, "LONGEST", 40)
        patched.setattr(candidates, "_WRITTEN", 1)
        hits = scan(FINDER, io.BytesIO(b"x " * (at // 2) + b" " * (at % 2) + named + NUMBER + b"\n" + b"y " * 250))
        assert [hit.offset for hit in hits if hit.text == NUMBER] == [at + len(named)]


@given(at=st.integers(0, 3_000))
@pytest.mark.parametrize("written", [KEY.decode().encode("utf-16-le"), base64.b64encode(KEY), base64.encodebytes(KEY)])
def test_nor_one_that_is_written_otherwise(at: int, written: bytes) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "_CHUNK", 97)
        patched.setattr(candidates, "LONGEST", 80)
        (hit,) = scan(FINDER, io.BytesIO(b"x " * (at // 2) + b" " * (at % 2) + written + b" y" * 250))
    assert (hit.offset, hit.text) == (at, KEY)


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
        *(KEY[:-1], KEY.upper(), b"rc_live_" * 20),
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


@pytest.mark.parametrize("key", [KEY, SHORT, b"sk_live_" + b"a1" * 12, b"sk-ant-api03-" + b"k9Zq" * 24])
@pytest.mark.parametrize("after", [b"N", b"admin", b"\xda\x05owner", b"_ for now", b"-", b"0" * 100])
def test_a_key_is_found_whatever_follows_it_directly(key: bytes, after: bytes) -> None:
    assert key in asked(b"\xda\x01" + key + after)
    assert len(found(b"\xda\x01" + key + after)) == 1


@pytest.mark.parametrize("key", [KEY, SHORT, b"sk_live_" + b"a1" * 12, NUMBER])
@pytest.mark.parametrize("before", [b"admin", b"7", b"-", b"_", b"acme_", b"z"])
def test_a_key_is_asked_about_whatever_stands_directly_before_it(key: bytes, before: bytes) -> None:
    assert key in asked(b"datadog: " + before + key)
    assert key in asked(b"datadog: " + before + key + b"ff")


@pytest.mark.parametrize("key", [KEY, SHORT, NUMBER])
@pytest.mark.parametrize("emphasis", [b"_", b"__", b"**", b"***", b"~~", b"`"])
def test_a_key_is_found_in_markdowns_emphasis(key: bytes, emphasis: bytes) -> None:
    data = b"the datadog token is " + emphasis + key + emphasis + b" for now"
    assert len(found(data)) == 1
    assert key in asked(data)


@pytest.mark.parametrize("form", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "before", [b"", b"\xff\xfe", b"started ok\n" * 60, b"started ok\n" * 60 + b"x", bytes(range(256)) * 9]
)
@pytest.mark.parametrize("key", [KEY, SHORT, NUMBER])
def test_utf_16_is_read_wherever_it_begins(before: bytes, form: str, key: bytes) -> None:
    line = "a line\r\ndatadog_token="
    data = before + (line + key.decode() + "\r\n").encode(form)
    (hit,) = [hit for hit in found(data) if hit.text == key]
    assert hit.offset == len(before) + 2 * len(line) + (form == "utf-16-be")
    assert hit.line == before.count(b"\n") + 2
    assert hit.column == len("datadog_token=") + 1


def test_utf_16_whose_other_letters_are_of_any_script_is_read() -> None:
    text = "# 配置文件说明\n" * 50 + f"token={KEY.decode()}配置"
    assert [hit.text for hit in found(text.encode("utf-16-le"))] == [KEY]


def packings(key: bytes) -> dict[str, bytes]:
    """A key in base64 as it is met."""
    login = base64.b64encode(b'{"auths":{"r.example":{"auth":"' + base64.b64encode(b"ada:" + key) + b'"}}}')
    mime = base64.encodebytes(b"some words that come before it: " + key + b" and after it" * 9)
    return {
        "kubernetes": b"kind: Secret\ndata:\n  datadog: " + base64.b64encode(key) + b"\n",
        "a registry's login": b"data:\n  .dockerconfigjson: " + login + b"\n",
        "basic authentication": b"Authorization: Basic " + base64.b64encode(b"ada:datadog:" + key),
        "mime": b"Content-Transfer-Encoding: base64\r\n\r\n" + mime.replace(b"ZGF0YWRvZw", b"").replace(b"\n", b"\r\n"),
        "a block of yaml": b"blob: |\n    " + mime.strip().replace(b"\n", b"\n    "),
        "for addresses": b"?t=" + base64.urlsafe_b64encode(b"\xff\xfe\xfb datadog " + key).rstrip(b"="),
        "behind a slash": b"secrets/" + base64.b64encode(b"datadog " + key),
        "powershell": b"-EncodedCommand " + base64.b64encode(f"$datadog='{key.decode()}'".encode("utf-16-le")),
        "in utf-16": ("datadog: " + base64.b64encode(key).decode()).encode("utf-16-le"),
    }


@pytest.mark.parametrize("way", packings(KEY))
@pytest.mark.parametrize("key", [KEY, SHORT, NUMBER])
def test_a_key_in_base64_is_found(way: str, key: bytes) -> None:
    if key == NUMBER and way in {"a registry's login", "mime", "a block of yaml"}:
        pytest.skip("no name stands before it")
    data = b"first\n" + packings(key)[way]
    (hit,) = [hit for hit in found(data) if hit.text == key]
    assert hit.line >= 2


def test_a_key_in_base64_is_found_where_it_begins() -> None:
    (hit,) = found(b"a\ntoken: " + base64.b64encode(b"abc" + KEY))
    assert (hit.line, hit.column) == (2, 12)


def test_a_form_that_begins_like_another_hides_none() -> None:
    key = b"sk-ant-api03-" + b"k9Zq" * 24
    assert {key, key + b"-" * 30} <= asked(b"k=" + key + b"-" * 30)


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


@given(
    before=st.lists(st.sampled_from([*"ab0_-. m[;x\\\x1b%u", "\\x4", "%4", "\x1b[", "\\u00"]), max_size=30).map(
        "".join
    ),
    at=st.integers(0, 40),
)
def test_where_a_key_may_begin_is_told_like_by_the_one_expression_for_it(before: str, at: int) -> None:
    at = min(at, len(before))
    one = re.compile(BEFORE).match(before, at)
    assert may_begin(before.encode(), at) is (one is not None)


class _Counting:
    """A pattern that notes how many places it was asked to look at."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.places = 0

    def finditer(self, data: bytes, start: int, end: int) -> Iterator[re.Match[bytes]]:
        looked_at = end
        try:
            for match in self._pattern.finditer(data, start, end):
                looked_at = match.start() + 1
                yield match
            looked_at = end
        finally:
            self.places += looked_at - start


NAMES = sorted({name for one in declared() for name in (one.provider.partition("-")[0], *one.names)})


LONG = Declared("long", "^[a-z]{4}[0-9]{2000}$", ())


@pytest.mark.parametrize("forms", [declared(), [LONG]])
@pytest.mark.parametrize(
    "unit", ["long", "long\n", *NAMES, *(f"{name}: {'0a1b2c3d' * 4}\n" for name in NAMES), " ".join(NAMES)]
)
def test_no_text_is_looked_at_many_times_for_the_forms_that_only_a_name_tells(unit: str, forms: list[Declared]) -> None:
    data = (unit * 10_000)[:20_000].encode()
    finder = Finder(forms)
    for form, _ in finder.by_name:
        counting = _Counting(form.starts)
        form.starts = counting  # type: ignore[assignment]  # all of it that is used
        finder.collect(data, {})
        assert counting.places <= 2 * len(data)


@pytest.mark.parametrize(
    "unit", [b"a-sk-" + b"a" * 24 + b" ", b"sk-", b"A" * 24 + b"\t", b"datadog: " + b"QUJD" * 8 + b"\n"]
)
def test_what_is_read_out_of_base64_is_bounded_by_the_text(unit: bytes) -> None:
    data = unit * (20_000 // len(unit))
    once = packed(data, [name.encode() for name in NAMES])
    assert once is not None
    assert len(once.text) <= 8 * len(data)
    twice = packed(once.text, [name.encode() for name in NAMES])
    assert twice is None or len(twice.text) <= 16 * len(data)


def test_where_digits_stand_is_worked_out_once_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[object] = []
    note = views.Run.note_lines

    def noting(run: views.Run) -> None:
        noted.append(run)
        note(run)

    monkeypatch.setattr(views.Run, "note_lines", noting)
    keys = b"".join(b"rc_live_%064d" % number for number in range(200))
    lines = base64.encodebytes(keys)
    hits = found(lines)
    assert [hit.text for hit in hits] == [keys[at : at + 72] for at in range(0, len(keys), 72)]
    assert {lines[hit.offset : hit.offset + 8].replace(b"\n", b"")[:4] for hit in hits} == {b"cmNf"}
    assert len(noted) == 1


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
