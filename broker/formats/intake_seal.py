"""A key sealed to one intake: HPKE (RFC 9180) with the post-quantum hybrid X-Wing KEM.

::

    suite      X-Wing (ML-KEM-768 and X25519, draft-connolly-cfrg-xwing-kem), HKDF-SHA256, AES-256-GCM, base mode
    public     ML-KEM-768 encapsulation key [1184] | X25519 public key [32]
    private    ML-KEM-768 seed [64] | X25519 private key [32]
    plaintext  len16 | key | verifier[32] | zeros up to a multiple of 256 bytes        (hides the key's length)
    message    enc | ciphertext

``info`` is the canonical form of protocol, intake, organization, provider and expiry.  So a message that is replayed to
another intake does not open.

The verifier is the key of the sender's status code (:mod:`link_proof`); the code itself stays with the sender.
Messages of version 1 have no verifier, and a protocol name of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from broker.formats import canonical
from broker.formats.link_proof import KEY_BYTES

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

    def info(self, version: int = 2) -> bytes:
        """The HPKE ``info`` input of a version's messages."""
        protocol = f"keybroker/intake-seal/v{version}"
        return canonical.encode(protocol, self.intake, self.organization, self.provider, self.expires_ms)


@dataclass(frozen=True, slots=True, repr=False)
class Submission:
    """What is sealed: a key as the upstream gave it, and a verifier.

    The verifier is that of the sender's status code, and b"" in version 1.
    """

    key: bytes
    verifier: bytes


def generate() -> tuple[bytes, bytes]:
    """A fresh key pair: private and public bytes."""
    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    private = mlkem.private_bytes_raw() + x25519.private_bytes_raw()
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return private, public


def seal(submission: Submission, public: bytes, context: SealContext) -> bytes:
    """``submission`` sealed to ``public`` and ``context``, as the page seals it.

    Scripted and offline senders use it.

    Raises:
        ValueError: the public key, or the length of key or verifier is not possible.
    """
    key, verifier = submission.key, submission.verifier
    if len(public) != PUBLIC_BYTES or len(key) > KEY_MAX or len(verifier) != KEY_BYTES:
        raise ValueError("a public key of 1216 bytes, a key of at most 16 KiB and a verifier of 32 bytes needed")
    padded = len(key).to_bytes(2, "big") + key + verifier
    padded += bytes(-len(padded) % _BLOCK)
    recipient = MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_BYTES]),
        X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC_BYTES:]),
    )
    return _SUITE.encrypt(padded, recipient, info=context.info())


def open_sealed(message: bytes, private: bytes, context: SealContext) -> Submission:
    """What a message holds.

    Raises:
        CannotOpen: it was altered, cut off, badly padded, or sealed to another key or context.
    """
    return _unpadded(_decrypted(message, private, context.info()), KEY_BYTES)


def open_sealed_v1(message: bytes, private: bytes, context: SealContext) -> Submission:
    """What a message of version 1 holds; raises as :func:`open_sealed`."""
    return _unpadded(_decrypted(message, private, context.info(1)), 0)


def _decrypted(message: bytes, private: bytes, info: bytes) -> bytes:
    recipient = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(private[:_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(private[_SEED_BYTES:]),
    )
    try:
        return _SUITE.decrypt(message, recipient, info=info)
    except (InvalidTag, ValueError):
        raise CannotOpen("the message does not open here") from None


def _unpadded(padded: bytes, verifier_bytes: int) -> Submission:
    length = int.from_bytes(padded[:2], "big")
    end = 2 + length + verifier_bytes
    key, verifier, padding = padded[2 : 2 + length], padded[2 + length : end], padded[end:]
    whole = len(padded) >= max(end, _BLOCK) and len(padded) % _BLOCK == 0 and length <= KEY_MAX
    if not whole or any(padding) or len(padding) >= _BLOCK:
        raise CannotOpen("the padding is not ours")
    return Submission(key, verifier)
