"""Others' signed tokens: what is taken, and by which word each other one is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.clock import Millis, of_seconds
from broker.issuers import published, verifying
from broker.issuers.verifying import Expected, NotTaken
from tests.issuers.forms import forms
from tests.support.issuer import Pair, pair, signed

T = 1_800_000_000
NOW = of_seconds(T)
RSA, EC, ED = pair("r"), pair("e", "P-256"), pair("d", "Ed25519")
KEYS = published.read({"keys": [key.as_dict(private=False) for key in (RSA, EC, ED)]})
EXPECTED = Expected("https://login.example/", "us", ("RS256", "ES256", "EdDSA"))


def claims(**more: Any) -> dict[str, Any]:
    usual = {"iss": "https://login.example/", "aud": "us", "sub": "ada", "iat": T, "exp": T + 300}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def check(token: str, now: Millis = NOW, expected: Expected = EXPECTED) -> Mapping[str, Any]:
    found = verifying.form(token, expected)
    keys = KEYS.candidates(found.header.get("kid"), found.header["alg"])
    return verifying.check(token, found, keys, expected, now)


def refusal(token: str, now: Millis = NOW, expected: Expected = EXPECTED) -> str:
    with pytest.raises(NotTaken) as refused:
        check(token, now, expected)
    return refused.value.code


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_token_is_taken_that_is_as_expected(key: Pair, alg: str) -> None:
    for more in ({}, {"aud": ["us"]}, {"iat": T + 20}, {"nbf": T - 600}, {"exp": T + 0.5}, {"new": {"a": [1]}}):
        assert check(signed(key, claims(**more), alg)) == claims(**more)
    assert check(signed(key, claims(), alg, typ=None, new="header", x5t="AAAA"))


def test_a_name_of_a_key_leads_to_no_other_place() -> None:
    mine = pair("r")
    for more in (
        {"jku": "https://evil.example"},
        {"jwk": mine.as_dict(private=False)},
        {"x5u": "https://evil.example"},
        {"x5c": ["MIIB"]},
    ):
        assert refusal(signed(mine, claims(), **more)) == "bad_signature"


FORMS = forms(RSA, EC, claims())


@pytest.mark.parametrize("form", FORMS)
def test_what_has_not_the_form_is_refused(form: str) -> None:
    token, code = FORMS[form]
    assert refusal(token) == code


MEANINGS: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://login.example"}, "wrong_issuer"),
    ({"iss": "https://LOGIN.example/"}, "wrong_issuer"),
    ({"iss": "https://lоgin.example/"}, "wrong_issuer"),
    ({"iss": ["https://login.example/"]}, "wrong_issuer"),
    ({"iss": None}, "wrong_issuer"),
    ({"aud": None}, "wrong_audience"),
    ({"aud": []}, "wrong_audience"),
    ({"aud": ["us", "them"]}, "wrong_audience"),
    ({"aud": ["us", "us"]}, "wrong_audience"),
    ({"aud": "us/"}, "wrong_audience"),
    ({"aud": {"us": True}}, "wrong_audience"),
    ({"exp": None}, "malformed"),
    ({"exp": True}, "malformed"),
    ({"exp": "9"}, "malformed"),
    ({"exp": 1e300}, "malformed"),
    ({"exp": -1}, "malformed"),
    ({"iat": None}, "malformed"),
    ({"iat": False}, "malformed"),
    ({"nbf": "now"}, "malformed"),
    ({"exp": T - 30}, "token_over"),
    ({"iat": T + 31}, "token_not_yet"),
    ({"nbf": T + 31}, "token_not_yet"),
    ({"exp": T + 86_401}, "lives_too_long"),
]


@pytest.mark.parametrize(("more", "code"), MEANINGS)
def test_what_is_for_somebody_else_or_another_time_is_refused(more: dict[str, Any], code: str) -> None:
    assert refusal(signed(RSA, claims(**more))) == code


def test_a_token_lasts_to_the_second() -> None:
    token = signed(RSA, claims())
    assert check(token, of_seconds(T + 329))
    assert refusal(token, of_seconds(T + 330)) == "token_over"


def test_a_kind_of_token_is_taken_where_it_is_asked_for_alone() -> None:
    logout = Expected(EXPECTED.issuer, "us", ("RS256",), frozenset({"logout+jwt"}))
    assert check(signed(RSA, claims(), typ="logout+jwt"), expected=logout)
    assert refusal(signed(RSA, claims()), expected=logout) == "type_refused"


@given(st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.integers()))
def test_a_time_is_a_number_that_somebody_could_mean(claim: object) -> None:
    found = verifying.seconds(claim)
    meant = type(claim) in {int, float} and math.isfinite(claim) and 0 <= claim <= 2**40  # type: ignore[arg-type,operator]  # numbers, as was looked at first
    assert (found is not None) == meant
