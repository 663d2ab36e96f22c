"""What a job signs to prove who it is."""

from __future__ import annotations

from broker.formats import assertion

BROKER = "https://keys.vendor.example"


def test_an_assertion_is_by_and_about_the_job_for_one_broker_alone() -> None:
    claims = assertion.claims("wkl_1", BROKER, now=1_764_000_000, jti="once")
    assert claims == {
        "iss": "wkl_1",
        "sub": "wkl_1",
        "aud": BROKER,
        "iat": 1_763_999_940,
        "nbf": 1_763_999_940,
        "exp": 1_764_000_060,
        "jti": "once",
    }


def test_its_header_says_what_it_is_for_and_which_key_signed_it() -> None:
    assert assertion.header("ES256", "k1") == {"typ": "client-authentication+jwt", "alg": "ES256", "kid": "k1"}
