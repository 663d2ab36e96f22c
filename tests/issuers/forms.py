"""Tokens that have not the form of one, or that nobody signed who may, each with the word that refuses it."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from tests.support.issuer import Pair, pair, signed

DEEP: Final = b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


def part(value: Any) -> str:
    """A part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(key: Pair, claims: Mapping[str, Any]) -> str:
    """Signed with what everybody knows (CVE-2015-9235)."""
    text = f"{part({'alg': 'HS256', 'kid': key.kid})}.{part(claims)}"
    return f"{text}.{part(hmac.digest(key.as_pem(private=False), text.encode(), 'sha256'))}"


def forms(rsa: Pair, ec: Pair, claims: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Bad tokens of an issuer that has these two keys, and would sign these claims."""
    said = json.dumps(claims).encode()
    begin, kid = said[:-1], str(rsa.kid)
    return {
        "none": (f"{part({'alg': 'none'})}.{part(claims)}.", "algorithm_refused"),
        "no algorithm": (f"{part({})}.{part(claims)}.AAAA", "algorithm_refused"),
        "an algorithm that isn't declared": (signed(rsa, claims, "RS512"), "algorithm_refused"),
        "the public key as a secret": (forged(rsa, claims), "algorithm_refused"),
        "another kind of key": (signed(ec, claims, "ES256", kid=kid), "key_unknown"),
        "an unknown key": (signed(rsa, claims, kid="x"), "key_unknown"),
        "an altered signature of the only key of its kind": (
            signed(rsa, claims, kid=None)[:-4] + "AAAA",
            "bad_signature",
        ),
        "a foreign key": (signed(pair(kid), claims), "bad_signature"),
        "a number as a key's name": (f"{part({'alg': 'RS256', 'kid': 7})}.{part(claims)}.AAAA", "malformed"),
        "four parts": (signed(rsa, claims) + ".AAAA", "malformed"),
        "padding": (signed(rsa, claims) + "=", "malformed"),
        "17 KiB": (signed(rsa, {**claims, "long": "x" * 17_000}), "malformed"),
        "claims without end": (f"{part({'alg': 'RS256'})}.{part(b'[' * 5_000)}.AAAA", "malformed"),
        "a deep claim": (signed(rsa, begin + b',"deep":' + DEEP + b"}"), "malformed"),
        "a deep header": (f"{part(DEEP)}.{part(claims)}.AAAA", "malformed"),
        "a claim twice": (signed(rsa, begin + b',"sub":"b"}'), "malformed"),
        "not a number": (signed(rsa, begin + b',"nan":NaN}'), "malformed"),
        "beyond measure": (signed(rsa, begin + b',"long":' + b"9" * 5_000 + b"}"), "malformed"),
        "NUL": (signed(rsa, {**claims, "nul": "a\0"}), "malformed"),
        "half a character": (signed(rsa, begin + b',"half":"\\ud800"}'), "malformed"),
        "a critical header": (
            f"{part({'alg': 'RS256', 'crit': ['b64'], 'b64': False})}.{part(claims)}.AAAA",
            "malformed",
        ),
        "an access token": (signed(rsa, claims, typ="at+jwt"), "type_refused"),
        "a logout token": (signed(rsa, claims, typ="logout+jwt"), "type_refused"),
        "a proof": (signed(rsa, claims, typ="dpop+jwt"), "type_refused"),
    }
