"""The path judged is the path sent."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.proxy.path import PathRefused, judged

REFUSED = [
    b"",
    b"facilities",
    b"/allowed/../admin",
    b"/allowed/./x",
    b"/allowed/..",
    b"/%2e%2e/admin",
    b"/a/%2E%2e",
    b"/%252e%252e/admin",
    b"/a%2fb",
    b"/a%252Fb",
    b"/a%5cb",
    b"/a\\b",
    b"//evil.example/x",
    b"/a//b",
    b"/a%00",
    b"/a%0d%0aX: y",
    b"/a%7f",
    b"/a b",
    b"/a#b",
    b"/a?b",
    b"/\xc3\xa9",
    b"/%25252525252e",
    b"/" + b"a" * 9000,
    b"/allowed/..;/admin",
    b"/allowed/%2e%2e;x=1/admin",
    b"/a/%zz",
    b"/a/%",
    b"/a/%c0%ae%c0%ae/admin",
    b"/a%c0%afb",
    b"/a/%ef%bc%8e%ef%bc%8e/admin",
    b"/a%ef%bc%8fb",
    b"/a/%e2%80%a5/admin",
    b"/a%c2%85",
]


@pytest.mark.parametrize("path", REFUSED)
def test_a_path_that_reads_two_ways_is_refused(path: bytes) -> None:
    with pytest.raises(PathRefused):
        judged(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/facilities",
        b"/facilities/",
        b"/a/fac_1",
        b"/a/%20b",
        b"/a/...",
        b"/a/x.json",
        b"/a/%C3%A9",
        b"/a:b@c",
        b"/a;v=1/b",
    ],
)
def test_a_plain_path_is_sent_byte_for_byte(path: bytes) -> None:
    assert judged(path).encode() == path


PIECES = st.sampled_from([b"/", b".", b"%2e", b"%2F", b"%5C", b"a", b"%25", b"\\", b"%00"])
MOSTLY_PLAIN = st.sampled_from([b"a/", b"b.", b"%61", b"%20", b"c%2eb/", b"..d", b"%c3%a9", b";x", b"%2e"])


@given(st.lists(PIECES, max_size=12) | st.lists(MOSTLY_PLAIN, min_size=1, max_size=8))
def test_what_passes_has_no_other_reading(parts: list[bytes]) -> None:
    path = b"/" + b"".join(parts)
    try:
        sent = judged(path)
    except PathRefused:
        return
    form = sent.encode()
    for _ in range(8):
        assert form.count(b"/") == path.count(b"/")
        assert not {b".", b".."} & set(form.split(b"/"))
        assert b"\\" not in form
        assert b"\0" not in form
        form = unquote_to_bytes(form)


GITLAB = ("/projects/*", "/projects/*/**", "/projects/*/files/*/raw", "/@*")


@pytest.mark.parametrize(
    "path",
    [
        b"/projects/group%2Fproject",
        b"/projects/group%2fsub%2fproject/issues/1",
        b"/projects/group%2Fproject/files/lib%2Fa%2Eb/raw",
        b"/@scope%2fname",
        b"/projects/7/issues",
    ],
)
def test_an_encoded_slash_where_its_provider_takes_it_for_part_of_a_name_is_sent_byte_for_byte(path: bytes) -> None:
    assert judged(path, GITLAB).encode() == path


@pytest.mark.parametrize(
    "path",
    [
        b"/groups/a%2Fb",
        b"/projects/7/issues%2F1",
        b"/projects%2F7",
        b"/projects/a%2Fb/c%2Fd",
        b"/projects/..%2Fadmin",
        b"/projects/a%2F..%2F..%2Fadmin",
        b"/projects/a%2F%2E%2E/x",
        b"/projects/a%2F..;x/y",
        b"/projects/a%2F%2Fb",
        b"/projects/%2Fb",
        b"/projects/a%2F",
        b"/projects/a%2F/issues",
        b"/projects/a%252Fb",
        b"/projects/a%2Fb%252Fc",
        b"/projects/a%2Fb%5Cc",
        b"/projects/a%2Fb%ef%bc%8fc",
        b"/projects/a%2Fb%00",
        b"/projects/a%2Fb%2",
        b"/projects/a%2Fb/%c0%ae%c0%ae",
    ],
)
def test_elsewhere_or_where_it_would_be_another_path_once_decoded_it_is_refused(path: bytes) -> None:
    with pytest.raises(PathRefused):
        judged(path, GITLAB)


@given(st.lists(st.sampled_from([b"/", b".", b"%2e", b"%2F", b"%5C", b"a", b"%25", b"2f", b";", b"%00"]), max_size=10))
def test_what_passes_with_encoded_slashes_stays_below_however_often_it_is_decoded(parts: list[bytes]) -> None:
    path = b"/projects/a" + b"".join(parts)
    try:
        form = judged(path, GITLAB).encode()
    except PathRefused:
        return
    for _ in range(8):
        segments = form.split(b"/")
        assert segments[:2] == [b"", b"projects"]
        assert not {b".", b".."} & {segment.partition(b";")[0] for segment in segments}
        assert b"" not in segments[1:-1]
        form = unquote_to_bytes(form)
