"""The key to which a process has its tokens bound, and its proofs (RFC 9449).

The key is made in memory and never leaves it.  Whoever copies a token from an environment or a log doesn't have it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from broker.formats import base64url, dpop

_COORDINATE = 32


class ProofKey:
    """One process's key.

    ``nonce`` is what the broker gave last.  Threads may share an instance.
    """

    def __init__(self) -> None:
        # P-256 and not Ed25519: the broker checks its signatures in two thirds of the time.
        self._key = generate_private_key(SECP256R1())
        point = self._key.public_key().public_numbers()
        x, y = (base64url.encode(number.to_bytes(_COORDINATE)) for number in (point.x, point.y))
        self._header = dpop.part(dpop.header("ES256", {"kty": "EC", "crv": "P-256", "x": x, "y": y}))
        self._signs = ECDSA(SHA256())
        self.nonce = ""

    def proof(self, method: str, url: str, token: str = "") -> str:
        """A proof for one request, with the token that goes along; "" if one is asked for."""
        said = dpop.claims(
            jti=secrets.token_urlsafe(12),
            method=method.upper(),
            url=url,
            now=int(time.time()),
            token=token,
            nonce=self.nonce,
        )
        signed = f"{self._header}.{dpop.part(said)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), self._signs))
        return f"{signed}.{base64url.encode(r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE))}"

    def note(self, headers: Mapping[str, str]) -> None:
        """Keep the nonce of an answer for the next proofs; in most answers there is none."""
        if nonce := headers.get(dpop.NONCE_HEADER):
            self.nonce = nonce
