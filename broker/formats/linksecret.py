"""The secret part of a one-time link: 160 random bits with a checksum, and the proof that a page sends of it.

::

    text  = base64url( secret[20] | SHA-256("keybroker/link/v1" | secret)[:4] )        32 characters
    proof = base64url( SHA-256( canonical("keybroker/link-proof/v1", text) ) )         43 characters

The checksum tells a link that was cut off on its way from one that is wrong, and lets the secret be found in a link
that was changed (:func:`find`).  Only the proof leaves the browser.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

from broker.formats import canonical

_SECRET_BYTES = 20
_LENGTH = 32
_TEXT = re.compile(rf"[A-Za-z0-9_-]{{{_LENGTH}}}")
# Of what came this much is looked at, so deep; the page's script (link.js) does the same.
_LONGEST = 4096
_ROUNDS = 4


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


def find(changed: str) -> str | None:
    """The secret in what a mail program made of a link's end; None where it is not whole in there.

    Percent-encoding is undone, however often it was done; what no secret is made of is left out.
    """
    letters = _letters_of(changed)
    candidates = (letters[start : start + _LENGTH] for start in range(len(letters) - _LENGTH + 1))
    return next(filter(check, candidates), None)


def cut_off(changed: str) -> bool:
    """Whether a link's end that holds no secret is too short for one."""
    return len(_letters_of(re.split(r"[?&]", changed)[0])) < _LENGTH


def proof(text: str) -> str:
    """What the page sends to show that it knows the secret."""
    digest = hashlib.sha256(canonical.encode("keybroker/link-proof/v1", text)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _letters_of(changed: str) -> str:
    decoded = changed[:_LONGEST]
    for _ in range(_ROUNDS):
        decoded = re.sub("%([0-9A-Fa-f]{2})", lambda escape: chr(int(escape[1], 16)), decoded)
    return re.sub("[^A-Za-z0-9_-]", "", decoded)


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha256(b"keybroker/link/v1" + secret).digest()[:4]
