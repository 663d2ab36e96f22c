"""The secret part of a one-time link: 160 random bits with a checksum, and the proof that a page sends of it.

::

    text  = base64url( secret[20] | SHA-256("keybroker/link/v1" | secret)[:4] )        32 characters
    proof = base64url( SHA-256( canonical("keybroker/link-proof/v1", text) ) )         43 characters

The checksum tells a link that was cut off on its way from one that is wrong.  Only the proof leaves the browser.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

from broker.formats import canonical

_SECRET_BYTES = 20
_TEXT = re.compile(r"[A-Za-z0-9_-]{32}")


def new() -> str:
    """A fresh secret."""
    return encode(secrets.token_bytes(_SECRET_BYTES))


def encode(secret: bytes) -> str:
    """The text form of 20 secret bytes."""
    if len(secret) != _SECRET_BYTES:
        raise ValueError("a link's secret has 20 bytes")
    return base64.urlsafe_b64encode(secret + _checksum(secret)).decode()


def check(text: str) -> bool:
    """Whether ``text`` is whole: a cut-off or mistyped one is not."""
    if not _TEXT.fullmatch(text):
        return False
    data = base64.urlsafe_b64decode(text)
    return data[_SECRET_BYTES:] == _checksum(data[:_SECRET_BYTES])


def proof(text: str) -> str:
    """What the page sends to show that it knows the secret."""
    digest = hashlib.sha256(canonical.encode("keybroker/link-proof/v1", text)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha256(b"keybroker/link/v1" + secret).digest()[:4]
