"""Bearer tokens of the broker: a searchable prefix, the secret part and a checksum.

::

    kbo_<43 base64url: 32 random bytes><6 base64url: CRC>      machine; session (kbs_), link of an account (kbe_),
                                                               device code (kbd_), bootstrap (kbb_),
                                                               development client (kbc_)
    kbl_<54 base64url: 16-byte lease id | 24-byte tag>          lease

The prefix lets scanners find a leaked token.  The checksum lets a caller tell a cut-off paste from a wrong token
without asking a server.

A lease token carries no random part.  Its tag is HMAC-SHA256 over the lease id under a key that only the keystore can
open.  So the database holds nothing from which a lease token could be made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from broker.formats import base64url, ids

_TOKEN = re.compile(r"(kb[obcdes])_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})")
_LEASE = re.compile(r"kbl_([A-Za-z0-9_-]{54})")
_TAG_BYTES = 24


def _checksum(body: str) -> str:
    return base64url.encode(hashlib.sha256(b"keybroker/token/v1\0" + body.encode()).digest()[:4])


def new(prefix: str) -> str:
    """A fresh token with 256 random bits; ``prefix`` is one of those above but a lease's."""
    body = f"{prefix}_{base64url.encode(secrets.token_bytes(32))}"
    token = body + _checksum(body)
    if not is_token(token, prefix):
        raise ValueError(f"{prefix!r} is no token prefix")
    return token


def is_token(text: str, prefix: str) -> bool:
    """Whether ``text`` has the form of a token with this prefix and its checksum holds."""
    match = _TOKEN.fullmatch(text)
    return match is not None and match[1] == prefix and _checksum(text[:-6]) == match[3]


def keyed_hash(key: bytes, token: str) -> bytes:
    """HMAC-SHA256 of a token: what is stored in its place."""
    return hmac.digest(key, b"keybroker/token-hash/v1\0" + token.encode(), "sha256")


def lease_token(key: bytes, lease_id: ids.LeaseId) -> str:
    """The token of the lease ``lse_…`` under the lease-token key."""
    # lease (12) the lease's token
    raw = bytes.fromhex(lease_id.removeprefix("lse_"))
    return "kbl_" + base64url.encode(raw + _lease_tag(key, raw))


def lease_id_of(key: bytes, token: str) -> ids.LeaseId | None:
    """The lease that ``token`` speaks for; None if it is no token made under ``key``.

    The time that it takes tells nothing of the tag.
    """
    match = _LEASE.fullmatch(token)
    if match is None:
        return None
    try:
        data = base64url.decode(match[1])
    except ValueError:  # another spelling than the one that we print
        return None
    raw, tag = data[:16], data[16:]
    return ids.of(ids.LeaseId, raw) if hmac.compare_digest(tag, _lease_tag(key, raw)) else None


def _lease_tag(key: bytes, raw: bytes) -> bytes:
    return hmac.digest(key, b"keybroker/lease-token/v1\0" + raw, "sha256")[:_TAG_BYTES]
