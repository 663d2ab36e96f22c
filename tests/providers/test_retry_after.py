"""For how long an upstream asks to be left alone, read from its answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from broker.providers import catalog
from broker.providers.definition import Retry
from broker.providers.retry import RateHeader
from broker.providers.retry_after import asked_of, pause_of

NOW = 1_794_940_000_000


@given(
    status=st.sampled_from([200, 429, 503]),
    header=st.one_of(
        st.sampled_from(["", "nan", "inf", "-5", "1e400", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 99 Foo", "\u0665"]),
        st.integers(-(10**12), 10**12).map(str),
        st.text(max_size=20),
    ),
    unit=st.sampled_from(["seconds", "milliseconds", "epoch", "epoch-milliseconds", "duration", "date"]),
)
def test_whatever_an_upstream_asks_for_a_pause_is_bounded(status: int, header: str, unit: Any) -> None:
    declared = Retry(unit=unit, cap_seconds=60)
    pause = pause_of(declared, status, {"Retry-After": header}, 1_795_000_000_000)
    assert 0 <= pause <= 60
    assert pause == 0 or status in {429, 503}


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        ("7", "seconds", 7),
        ("1500", "milliseconds", 1.5),
        ("1794940010", "epoch", 10),
        ("Tue, 17 Nov 2026 18:26:45 GMT", "seconds", 5),
        ("1794940010000", "epoch-milliseconds", 10),
        ("6m0s", "duration", 360),
        ("0h2m3.5s", "duration", 123.5),
        ("20ms", "duration", 0.02),
        ("2026-11-17T18:26:45Z", "date", 5),
        ("Tue, 17 Nov 2026 18:26:45 GMT", "date", 5),
        ("", "seconds", 1),
        ("s", "duration", 1),
        ("soon", "date", 1),
    ],
)
def test_the_units_of_a_pause(value: str, unit: Any, seconds: float) -> None:
    declared = Retry(unit=unit, cap_seconds=3600)
    assert pause_of(declared, 429, {"Retry-After": value}, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_outage_asks_for_what_its_retry_after_says_and_no_other_header(status: int) -> None:
    declared = Retry(header="X-Reset")
    assert asked_of(declared, status, {"X-Reset": "30"}, NOW) is None
    assert asked_of(declared, status, {"retry-after": "30", "X-Reset": "40"}, NOW) == 30
    assert asked_of(declared, status, {"Retry-After": "soon"}, NOW) is None
    assert asked_of(Retry(unit="milliseconds"), status, {"Retry-After": "1500"}, NOW) == 1.5


@pytest.mark.parametrize("status", [200, 301, 401, 404, 413, 500])
def test_other_answers_ask_for_nothing(status: int) -> None:
    assert asked_of(Retry(), status, {"Retry-After": "30"}, NOW) is None


def test_of_several_headers_the_strictest_counts_and_so_does_one_that_came_twice() -> None:
    declared = Retry(headers=(RateHeader(name="A"), RateHeader(name="B", unit="epoch")))
    assert asked_of(declared, 429, {"A": "5", "B": "1794940009"}, NOW) == 9
    assert asked_of(declared, 429, {"A": "12", "B": "1794940009"}, NOW) == 12
    assert asked_of(declared, 429, {"A": "5", "Retry-After": "20"}, NOW) == 20, "always among them"
    assert asked_of(declared, 429, CIMultiDict([("A", "5"), ("a", "7")]), NOW) == 7


def test_a_limit_of_which_something_is_left_asks_for_nothing() -> None:
    declared = Retry(headers=(RateHeader(name="Reset", remaining="Left"),), otherwise_seconds=3)
    assert asked_of(declared, 429, {"Reset": "50", "Left": "0"}, NOW) == 50
    assert asked_of(declared, 429, {"Reset": "50"}, NOW) == 50
    assert asked_of(declared, 429, {"Reset": "50", "Left": "9"}, NOW) == 3


def test_what_is_asked_is_known_beyond_the_cap() -> None:
    assert asked_of(Retry(cap_seconds=60), 503, {"Retry-After": "3000"}, NOW) == 3000
    assert pause_of(Retry(cap_seconds=60), 503, {"Retry-After": "3000"}, NOW) == 60


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (403, {"Retry-After": "45", "X-RateLimit-Remaining": "4990", "X-RateLimit-Reset": "1794943000"}, 45),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1794940050"}, 50),
        (403, {"X-RateLimit-Remaining": "4990", "X-RateLimit-Reset": "1794943000"}, None),
        (429, {"X-RateLimit-Reset": "1794940050"}, 50),
        (429, {"X-RateLimit-Remaining": "4990", "X-RateLimit-Reset": "1794943000"}, 60),
        (429, {}, 60),
    ],
)
def test_github_is_read_as_its_documentation_says(status: int, headers: dict[str, str], seconds: float | None) -> None:
    assert asked_of(catalog.load().get("github").retry, status, headers, NOW) == seconds


def test_openai_is_read_as_its_documentation_says() -> None:
    retry = catalog.load().get("openai").retry
    limits = {"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}
    left = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "149984"}
    assert asked_of(retry, 429, {**limits, **left}, NOW) == 1
    assert asked_of(retry, 429, {**limits, **left, "x-ratelimit-remaining-tokens": "0"}, NOW) == 360
