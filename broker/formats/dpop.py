"""What shows that a request's sender holds its token's key (RFC 9449, DPoP).

::

    header    {"typ": "dpop+jwt", "alg": "ES256" | "EdDSA" | "Ed25519", "jwk": the public key}
    claims    {"jti": …, "htm": method, "htu": address, "iat": seconds, "ath": …, "nonce": …}
    proof     base64url(header) "." base64url(claims) "." base64url(signature of all before this point)
    jkt       base64url(SHA-256(the key's required members, sorted, as JSON))          RFC 7638
    ath       base64url(SHA-256(the token that comes along)); none where a token is asked for

``htu`` is the address without query and fragment.  A proof is for one request, and good once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from broker.formats import base64url

TYPE: Final = "dpop+jwt"
ALGORITHMS: Final = ("ES256", "EdDSA", "Ed25519")
HEADER: Final = "DPoP"
NONCE_HEADER: Final = "DPoP-Nonce"
NONCE_NEEDED: Final = "use_dpop_nonce"
# The members that make a public key (RFC 7638 §3.2, RFC 8037 §2), by its curve.
MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {"P-256": ("crv", "kty", "x", "y"), "Ed25519": ("crv", "kty", "x")}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The name of a public key, which tokens are bound to."""
    members = {name: jwk[name] for name in MEMBERS[jwk["crv"]]}
    return base64url.encode(hashlib.sha256(_json(members)).digest())


def token_hash(token: str) -> str:
    """What a proof says of the token that it goes with."""
    return base64url.encode(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())


def address(url: str) -> str:
    """A URL as a proof has it: without query and fragment."""
    return url.partition("#")[0].partition("?")[0]


def header(algorithm: str, jwk: Mapping[str, Any]) -> dict[str, Any]:
    """The header of every proof under that public key."""
    return {"typ": TYPE, "alg": algorithm, "jwk": {name: jwk[name] for name in MEMBERS[jwk["crv"]]}}


def claims(*, jti: str, method: str, url: str, now: int, token: str = "", nonce: str = "") -> dict[str, Any]:
    """What a proof says.

    Args:
        jti: at least 96 random bits, never used again.
        method: of the request.
        url: of the request.
        now: seconds since the epoch.
        token: the token that goes along; "" if one is asked for.
        nonce: what the broker gave last; "" if it gave none yet.
    """
    said: dict[str, Any] = {"jti": jti, "htm": method, "htu": address(url), "iat": now}
    if token:
        said["ath"] = token_hash(token)
    if nonce:
        said["nonce"] = nonce
    return said


def part(said: Mapping[str, Any]) -> str:
    """A part of a proof as it is sent and signed."""
    return base64url.encode(_json(said))


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
