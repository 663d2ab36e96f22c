"""Others' signed tokens: what is taken, and by which word each other one is refused."""

from __future__ import annotations

import base64
import hmac
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.clock import Millis, of_seconds
from broker.issuers import published, verifying
from broker.issuers.verifying import Expected, NotTaken
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


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


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


DEEP = b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


def forged() -> str:
    """Signed with what everybody knows (CVE-2015-9235)."""
    text = f"{part({'alg': 'HS256', 'kid': 'r'})}.{part(claims())}"
    return f"{text}.{part(hmac.digest(RSA.as_pem(private=False), text.encode(), 'sha256'))}"


FORMS: dict[str, tuple[str, str]] = {
    "none": (f"{part({'alg': 'none'})}.{part(claims())}.", "algorithm_refused"),
    "no algorithm": (f"{part({})}.{part(claims())}.AAAA", "algorithm_refused"),
    "an algorithm that isn't declared": (signed(RSA, claims(), "RS512"), "algorithm_refused"),
    "the public key as a secret": (forged(), "algorithm_refused"),
    "another kind of key": (signed(EC, claims(), "ES256", kid="r"), "key_unknown"),
    "an unknown key": (signed(RSA, claims(), kid="x"), "key_unknown"),
    "an altered signature of the only key of its kind": (
        signed(RSA, claims(), kid=None)[:-4] + "AAAA",
        "bad_signature",
    ),
    "a foreign key": (signed(pair("r"), claims()), "bad_signature"),
    "a number as a key's name": (f"{part({'alg': 'RS256', 'kid': 7})}.{part(claims())}.AAAA", "malformed"),
    "four parts": (signed(RSA, claims()) + ".AAAA", "malformed"),
    "padding": (signed(RSA, claims()) + "=", "malformed"),
    "17 KiB": (signed(RSA, claims(long="x" * 17_000)), "malformed"),
    "claims without end": (f"{part({'alg': 'RS256'})}.{part(b'[' * 5_000)}.AAAA", "malformed"),
    "a deep claim": (signed(RSA, DEEP), "malformed"),
    "a deep header": (f"{part(DEEP)}.{part(claims())}.AAAA", "malformed"),
    "a claim twice": (signed(RSA, b'{"sub":"a","sub":"b"}'), "malformed"),
    "not a number": (signed(RSA, b'{"exp":NaN}'), "malformed"),
    "NUL": (signed(RSA, claims(sub="a\0")), "malformed"),
    "half a character": (signed(RSA, b'{"sub":"\\ud800"}'), "malformed"),
    "a critical header": (
        f"{part({'alg': 'RS256', 'crit': ['b64'], 'b64': False})}.{part(claims())}.AAAA",
        "malformed",
    ),
    "an access token": (signed(RSA, claims(), typ="at+jwt"), "type_refused"),
    "a logout token": (signed(RSA, claims(), typ="logout+jwt"), "type_refused"),
    "a proof": (signed(RSA, claims(), typ="dpop+jwt"), "type_refused"),
}


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
