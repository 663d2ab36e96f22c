"""The secret part of a link, and the code of a status page: 160 random bits with a checksum.

::

    code       = base64url( secret[20] | SHA-256("keybroker/link/v1" | secret)[:4] )                      32 characters
    link       = base64url( secret[20] | recipient[:16] | SHA-256("keybroker/link/v2" | all before)[:4] ) 54 characters
    recipient  = SHA-256( canonical("keybroker/link-recipient/v2", public key, intake, organization, provider, expiry) )

A link names whom the key is to be sealed to, so whoever answers for the broker on the way can't name another.  Links of
version 1 had the form that codes have and name nobody.

The checksum tells a text that was cut off on its way from one that is wrong.  It also lets the text be found in what
became of it (:func:`find`).  No part of a link that was cut off passes as a link of version 1.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from broker.formats import base64url, canonical
from broker.formats.intake_seal import SealContext

_SECRET_BYTES = 20
_RECIPIENT_BYTES = 16
_CODE, _LINK = 32, 54
_LABELS = {_CODE: b"keybroker/link/v1", _LINK: b"keybroker/link/v2"}
_SUM_BYTES = 4
# No more than this is looked at, and no deeper; the page's script (link.js) does the same.
_LONGEST = 4096
_ROUNDS = 4


def new() -> str:
    """A fresh code."""
    return encode(secrets.token_bytes(_SECRET_BYTES))


def encode(secret: bytes) -> str:
    """The code of 20 secret bytes."""
    if len(secret) != _SECRET_BYTES:
        raise ValueError("a link's secret has 20 bytes")
    return _with_sum(secret, _CODE)


def link_to(recipient: bytes) -> str:
    """A fresh link's secret part.

    The key is to be sealed to ``recipient`` (:func:`recipient_of`).
    """
    while True:
        text = link(secrets.token_bytes(_SECRET_BYTES), recipient)
        if _of_length(text, _CODE) is None:
            return text


def link(secret: bytes, recipient: bytes) -> str:
    """The link's secret part of 20 secret bytes and a recipient of 32."""
    if len(secret) != _SECRET_BYTES:
        raise ValueError("a link's secret has 20 bytes")
    return _with_sum(secret + recipient[:_RECIPIENT_BYTES], _LINK)


def recipient_of(public_key: bytes, context: SealContext) -> bytes:
    """What a link names: whose key pair a submission is sealed to, and for what."""
    of = (public_key, context.intake, context.organization, context.provider, context.expires_ms)
    return hashlib.sha256(canonical.encode("keybroker/link-recipient/v2", *of)).digest()


def names_recipient(text: str) -> bool:
    """Whether this is a link of version 2; those of version 1 and codes name none."""
    return len(text) == _LINK


def is_for(text: str, recipient: bytes) -> bool:
    """Whether a link, whole (:func:`check`) and of version 2, names just this recipient."""
    return names_recipient(text) and base64url.decode(text)[_SECRET_BYTES:-_SUM_BYTES] == recipient[:_RECIPIENT_BYTES]


def check(text: str) -> bool:
    """Whether ``text`` is whole, neither cut off nor mistyped."""
    if len(text) not in _LABELS:
        return False
    try:
        data = base64url.decode(text)
    except ValueError:  # some bits of the last character may not count: one spelling is the right one
        return False
    return data[-_SUM_BYTES:] == _sum(data[:-_SUM_BYTES], len(text))


def find(changed: str) -> str | None:
    """The link or code in what a mail program made of a link's end; None if it isn't whole.

    Percent-encoding is undone, however often it was done.  Characters that no secret consists of are left out.
    """
    letters = _letters_of(changed)
    return _of_length(letters, _LINK) or _of_length(letters, _CODE)


def cut_off(changed: str) -> bool:
    """Whether a link's end that holds no secret is too short for one."""
    length = len(_letters_of(re.split(r"[?&]", changed)[0]))
    return length < _LINK and length != _CODE


def proof(text: str) -> str:
    """What shows the broker that a link of version 1 is known.

    It is a constant: whoever saw it once can prove the same.
    """
    digest = hashlib.sha256(canonical.encode("keybroker/link-proof/v1", text)).digest()
    return base64url.encode(digest)


def _of_length(letters: str, length: int) -> str | None:
    candidates = (letters[start : start + length] for start in range(len(letters) - length + 1))
    return next(filter(check, candidates), None)


def _letters_of(changed: str) -> str:
    decoded = changed[:_LONGEST]
    for _ in range(_ROUNDS):
        decoded = re.sub("%([0-9A-Fa-f]{2})", lambda escape: chr(int(escape[1], 16)), decoded)
    return re.sub("[^A-Za-z0-9_-]", "", decoded)


def _with_sum(data: bytes, length: int) -> str:
    return base64url.encode(data + _sum(data, length))


def _sum(data: bytes, length: int) -> bytes:
    return hashlib.sha256(_LABELS[length] + data).digest()[:_SUM_BYTES]
