"""What shows that a request's sender holds a key."""

from __future__ import annotations

from broker.formats import base64url, dpop

URL = "https://keys.vendor.example/proxy/acme/raptor-comply/facilities"
# RFC 9449's own key and token (§4.1, §7.1), and the names that it gives them.
EXAMPLE = {
    "kty": "EC",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    "crv": "P-256",
}


def test_the_example_keys_name_is_the_rfcs() -> None:
    assert dpop.thumbprint(EXAMPLE) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_a_keys_name_does_not_depend_on_what_else_it_says() -> None:
    assert dpop.thumbprint({"kid": "k1", "use": "sig", **EXAMPLE}) == dpop.thumbprint(EXAMPLE)


def test_the_example_tokens_hash_is_the_rfcs() -> None:
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    assert dpop.token_hash(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_a_header_holds_the_public_key_alone() -> None:
    assert dpop.header("ES256", {**EXAMPLE, "d": "private"}) == {"typ": "dpop+jwt", "alg": "ES256", "jwk": EXAMPLE}


def test_a_proof_is_for_an_address_without_query_and_fragment() -> None:
    said = dpop.claims(jti="once", method="GET", url=f"{URL}?a=b#c", now=1_764_000_000)
    assert said == {"jti": "once", "htm": "GET", "htu": URL, "iat": 1_764_000_000}


def test_a_proof_names_the_token_and_the_nonce_that_it_goes_with() -> None:
    said = dpop.claims(jti="once", method="GET", url=URL, now=1, token="kbl_x", nonce="n")
    assert (said["ath"], said["nonce"]) == (dpop.token_hash("kbl_x"), "n")


def test_a_part_is_base64url_of_json() -> None:
    assert base64url.decode(dpop.part({"b": 1, "a": "x"})) == b'{"a":"x","b":1}'
