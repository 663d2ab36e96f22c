"""One reading of a query's parameter names."""

from __future__ import annotations

import time
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.parameters import QueryRefused, folded, read

SPELLINGS = [
    "_method",
    "_METHOD",
    "%5fmethod",
    "%255Fmethod",
    "%u005Fmethod",
    ".method",
    "%2Emethod",
    "-method",
    "[method",
    "%5Bmethod",
    "+_method",
    "%20_method",
    "%09_method",
    "%2B_method",
    "_method%20",
    "_method[]",
    "_method%5B%5D",
    "_method[a][b]",
    "_method [",
    "[_method]",
    "_method%00",
    "_method%00.x",
    "%00_method",
    "_method%3DDELETE",
    "x;_method",
    "x&&;_method",
    "_method;x",
]


def names(query: str) -> set[str]:
    return {name for parameter in read(query) for name in parameter.readings}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_read_as_the_name(spelling: str) -> None:
    assert "_method" in names(f"a=1&{spelling}=DELETE&b=2")


@pytest.mark.parametrize(
    "other", ["method", "x_method", "a[_method]", "methods", "_methods", "q=_method", "a=%26_method"]
)
def test_another_name_is_not_read_as_it(other: str) -> None:
    assert "_method" not in names(other)


def test_a_name_that_php_and_others_read_differently_has_both_readings() -> None:
    assert names("api[key=1") == {"api_key", "api"}


def test_names_are_compared_by_one_spelling() -> None:
    assert folded(" Api.Key ") == folded("api-key") == folded("API_KEY") == "api_key"


def test_a_name_is_shown_as_it_decodes() -> None:
    assert [parameter.name for parameter in read("API_Key=1&ids[]=2&a%20b=3&%ff=4")] == [
        "API_Key",
        "ids[]",
        "a b",
        "\ufffd",
    ]


@given(st.text("ab=&;%25[]._+", max_size=40))
def test_what_was_read_is_the_query_byte_for_byte(query: str) -> None:
    try:
        found = read(query)
    except QueryRefused:
        return
    assert "".join(one.separators + one.text for one in found) == (f"&{query}" if query else "")


@given(st.text(max_size=12), st.integers(1, 4))
def test_a_name_is_found_however_often_it_is_encoded_up_to_the_bound(name: str, times: int) -> None:
    plain = quote(name.encode("utf-8", "replace"), safe="")
    sent = plain
    for _ in range(times - 1):
        sent = quote(sent, safe="")
    assert names(sent) >= names(plain)


@pytest.mark.parametrize("query", ["%" + "25" * 8_000 + "=1", "%252525252541=1"])
def test_a_name_that_is_encoded_over_and_over_is_refused(query: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        read(query)
    assert "once" in refused.value.public


WORST = [
    "%" + "25" * 8_000,
    "%25" * 5_461,
    "%u005f" * 2_730,
    "&" * 16_384,
    "[" * 16_384,
    "+" * 16_384,
    ".;" * 8_192,
    "&".join(f"%{number:x}" for number in range(3_300)),
]


@pytest.mark.parametrize("query", WORST, ids=range(len(WORST)))
def test_the_longest_query_takes_no_time_to_speak_of(query: str) -> None:
    began = time.process_time()
    for _ in range(5):
        with suppress(QueryRefused):
            read(query)
    assert time.process_time() - began < 1, "not a measurement: it was 0.4 s each, and grew with the square"
