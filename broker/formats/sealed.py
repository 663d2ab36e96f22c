"""A key sealed to one intake: HPKE (RFC 9180) with the post-quantum hybrid X-Wing KEM.

::

    suite      X-Wing (ML-KEM-768 and X25519, draft-connolly-cfrg-xwing-kem), HKDF-SHA256, AES-256-GCM, base mode
    public     ML-KEM-768 encapsulation key [1184] | X25519 public key [32]
    private    ML-KEM-768 seed [64] | X25519 private key [32]
    plaintext  len16 | key | zeros up to a multiple of 256 bytes        (hides the key's length)
    message    enc | ciphertext

``info`` is the canonical form of protocol, intake, organization, provider and expiry, so a message that is replayed
to another intake does not open.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from broker.formats import canonical

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
_X25519_BYTES = 32
PUBLIC_BYTES = _MLKEM_PUBLIC_BYTES + _X25519_BYTES
_BLOCK = 256
KEY_MAX = 16_384


class CannotOpen(ValueError):
    """The message was altered, or sealed for another place."""


@dataclass(frozen=True, slots=True)
class SealContext:
    """What a message is bound to.  ``expires_ms`` is milliseconds since the epoch."""

    intake: str
    organization: str
    provider: str
    expires_ms: int

    def info(self) -> bytes:
        """The HPKE ``info`` input."""
        return canonical.encode(
            "keybroker/intake-seal/v1", self.intake, self.organization, self.provider, self.expires_ms
        )


def generate() -> tuple[bytes, bytes]:
    """A fresh key pair: private and public bytes."""
    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    private = mlkem.private_bytes_raw() + x25519.private_bytes_raw()
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return private, public


def seal(key: bytes, public: bytes, context: SealContext) -> bytes:
    """``key`` sealed to ``public`` and ``context``: what the page does, for scripted and offline senders.

    Raises:
        ValueError: the public key or the key's length is not possible.
    """
    if len(public) != PUBLIC_BYTES or len(key) > KEY_MAX:
        raise ValueError("a public key of 1216 bytes and a key of at most 16 KiB needed")
    padded = len(key).to_bytes(2, "big") + key
    padded += bytes(-len(padded) % _BLOCK)
    recipient = MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_BYTES]),
        X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC_BYTES:]),
    )
    return _SUITE.encrypt(padded, recipient, info=context.info())


def open_sealed(message: bytes, private: bytes, context: SealContext) -> bytes:
    """The key of a sealed message.

    Raises:
        CannotOpen: altered, cut off, badly padded, or sealed to another key or context.
    """
    recipient = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(private[:_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(private[_SEED_BYTES:]),
    )
    try:
        padded = _SUITE.decrypt(message, recipient, info=context.info())
    except (InvalidTag, ValueError):
        raise CannotOpen("the message does not open here") from None
    length = int.from_bytes(padded[:2], "big")
    key, padding = padded[2 : 2 + length], padded[2 + length :]
    whole = padded and len(padded) % _BLOCK == 0 and len(key) == length <= KEY_MAX
    if not whole or any(padding) or len(padding) >= _BLOCK:
        raise CannotOpen("the padding is not ours")
    return key
