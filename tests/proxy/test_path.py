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


@given(st.lists(st.sampled_from([b"/", b".", b"%2e", b"%2F", b"%5C", b"a", b"%25", b"\\", b"%00"]), max_size=12))
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
