"""The key that a proof names, and its check of a signature.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from broker.formats import base64url, dpop
from broker.issuers.published import SECRET

_CURVES: Final = {"ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519"), "Ed25519": ("OKP", "Ed25519")}
_COORDINATE: Final = 32
_SIGNED_BY_ECDSA: Final = ECDSA(SHA256())

# Raises InvalidSignature.
Verify = Callable[[bytes, bytes], None]


class ProofKey(NamedTuple):
    """A public key: its name, and what checks a signature (first) of bytes (second)."""

    jkt: str
    verify: Verify


def read(header: Mapping[str, Any]) -> ProofKey:
    """The key of a proof's header; raises ValueError if that is none of a proof."""
    if header.get("typ") != dpop.TYPE or "crit" in header:
        raise ValueError("typ")
    jwk, algorithm = header.get("jwk"), header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _CURVES:
        raise ValueError("alg")
    if (
        not isinstance(jwk, dict)
        or not SECRET.isdisjoint(jwk)
        or _CURVES[algorithm] != (jwk.get("kty"), jwk.get("crv"))
    ):
        raise ValueError("jwk")
    if not all(isinstance(jwk.get(name), str) for name in dpop.MEMBERS[jwk["crv"]]):
        raise ValueError("jwk")
    return ProofKey(dpop.thumbprint(jwk), _ecdsa(jwk) if algorithm == "ES256" else _eddsa(jwk))


def _ecdsa(jwk: Mapping[str, Any]) -> Verify:
    x, y = (base64url.decode(jwk[name]) for name in ("x", "y"))
    if len(x) != _COORDINATE or len(y) != _COORDINATE:
        raise ValueError("jwk")
    # Raises if the point isn't on the curve.
    key = EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1()).public_key()

    def verify(signature: bytes, signed: bytes) -> None:
        if len(signature) != 2 * _COORDINATE:
            raise InvalidSignature
        r, s = signature[:_COORDINATE], signature[_COORDINATE:]
        key.verify(encode_dss_signature(int.from_bytes(r), int.from_bytes(s)), signed, _SIGNED_BY_ECDSA)

    return verify


def _eddsa(jwk: Mapping[str, Any]) -> Verify:
    return Ed25519PublicKey.from_public_bytes(base64url.decode(jwk["x"])).verify
