"""The personal part of an audit event as it is kept: sealed under keys that can be deleted.

::

    part key = HMAC-SHA256(actor's key, "auditpart/v1\\0" | organization's key[32] | account's key[32] | day64)
    sealed   = 0x01 | AES-256-GCM(part key, nonce cp[:12], aad cp, salt_personal[32] | personal_bytes)
    wrapped  = 0x01 | nonce[12] | AES-256-GCM(wrapping key, nonce, aad "auditsubject/v1\\0" | id, key[32])

Its *data subjects* are those whom the event's core names: the actor, the organization, and the operator's account that
it is about (``subject``).  Each has a random key of its own, which is kept wrapped.  Once one of these keys is deleted,
nobody can open the part any more.  ``cp``, the commitment to the part (:mod:`broker.formats.audit_event`), is kept
beside it, so the event's entry stays provable.  A key is 32 zero bytes where there is no organization or no other
account.  ``day64`` counts days (UTC) since 1970.
"""

from __future__ import annotations

import hmac
import os
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.formats.audit_event import commitment_of

_VERSION: Final = b"\x01"
_NONCE: Final = 12
_DAY_MS: Final = 24 * 60 * 60 * 1000
KEY_BYTES: Final = 32
NOBODY: Final = bytes(KEY_BYTES)


class NotOpened(ValueError):
    """Bytes that were not sealed so, or under other keys."""


class Clear(NamedTuple):
    """A personal part's bytes and their salt."""

    personal: bytes
    salt: bytes


class PartKey:
    """The key of all events of one day that have the same data subjects."""

    def __init__(self, actor: bytes, organization: bytes, account: bytes, day: int) -> None:
        said = b"auditpart/v1\0" + organization + account + day.to_bytes(8, "big")
        self._cipher = AESGCM(hmac.digest(actor, said, "sha256"))

    def seal(self, personal: bytes, salt: bytes, commitment: bytes) -> bytes:
        """The sealed bytes; ``commitment`` is that to the two others."""
        return _VERSION + self._cipher.encrypt(commitment[:_NONCE], salt + personal, commitment)

    def opened(self, sealed: bytes, commitment: bytes) -> Clear:
        """What was sealed.

        Raises:
            NotOpened: under other keys, or for another event; or it was altered.
        """
        if sealed[:1] != _VERSION:
            raise NotOpened
        try:
            clear = self._cipher.decrypt(commitment[:_NONCE], sealed[1:], commitment)
        except (InvalidTag, ValueError):
            raise NotOpened from None
        part = Clear(clear[KEY_BYTES:], clear[:KEY_BYTES])
        if commitment_of(part.personal, part.salt) != commitment:
            raise NotOpened
        return part


def day_of(time: int) -> int:
    """The day (UTC, since 1970) of a time in milliseconds."""
    return time // _DAY_MS


def wrap(wrapping: bytes, id_: str, key: bytes, nonce: bytes | None = None) -> bytes:
    """The key of a data subject as it is kept; ``nonce`` is given only to check a vector."""
    nonce = os.urandom(_NONCE) if nonce is None else nonce
    return _VERSION + nonce + AESGCM(wrapping).encrypt(nonce, key, _said(id_))


def unwrap(wrapping: bytes, id_: str, wrapped: bytes) -> bytes:
    """The key of a data subject.

    Raises:
        NotOpened: it is another one's, or was altered.
    """
    nonce, rest = wrapped[1 : 1 + _NONCE], wrapped[1 + _NONCE :]
    if wrapped[:1] != _VERSION:
        raise NotOpened
    try:
        return AESGCM(wrapping).decrypt(nonce, rest, _said(id_))
    except (InvalidTag, ValueError):
        raise NotOpened from None


def _said(id_: str) -> bytes:
    return b"auditsubject/v1\0" + id_.encode()
