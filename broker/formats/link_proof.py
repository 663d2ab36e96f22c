"""How a caller proves that it knows a link's secret or a code.  No word of it serves twice.

::

    key       = HMAC-SHA-256( text of the link or code, "keybroker/link-key/v2" )                    known to both sides
    proof     = HMAC-SHA-256( key, canonical("keybroker/link-proof/v2", nonce, route, SHA-256(body)) )
    header    = X-Broker-Proof: nonce "." base64url(proof)

    next link of who holds a code, whose key is `key`:
    secret    = HMAC-SHA-256( key, canonical("keybroker/next-link/v2", intake, recipient) )[:20]
    answer    = HMAC-SHA-256( key, canonical("keybroker/next-recipient/v2", nonce, recipient) )

The nonce is the broker's.  It works once, and only for the page and id that it was asked for.  The route is
``/intake/ID/STEP`` or ``/status/ID/STEP``.

Both sides know the next link's secret without its being sent.  The ``answer`` shows the holder of the code that the
recipient is the one that the broker named.
"""

from __future__ import annotations

import hashlib
import hmac

from broker.formats import base64url, canonical

HEADER = "X-Broker-Proof"
KEY_BYTES = 32


def key_of(text: str) -> bytes:
    """The key that is derived from a link's secret part or a code."""
    return hmac.digest(text.encode(), b"keybroker/link-key/v2", "sha256")


def proof(key: bytes, nonce: str, route: str, body: bytes) -> bytes:
    """What shows that whoever sends ``body`` to ``route`` knows ``key``."""
    said = canonical.encode("keybroker/link-proof/v2", nonce, route, hashlib.sha256(body).digest())
    return hmac.digest(key, said, "sha256")


def header(key: bytes, nonce: str, route: str, body: bytes) -> dict[str, str]:
    """The header that carries a proof."""
    text = base64url.encode(proof(key, nonce, route, body))
    return {HEADER: f"{nonce}.{text}"}


def read(value: str) -> tuple[str, bytes] | None:
    """The nonce and proof of a header's value; None if it holds none."""
    nonce, dot, text = value.partition(".")
    try:
        given = base64url.decode(text)
    except ValueError:
        return None
    return (nonce, given) if dot and nonce else None


def next_secret(key: bytes, intake: str, recipient: bytes) -> bytes:
    """The 20 secret bytes of the link that the holder of a code goes on to."""
    return hmac.digest(key, canonical.encode("keybroker/next-link/v2", intake, recipient), "sha256")[:20]


def next_recipient(key: bytes, nonce: str, recipient: bytes) -> bytes:
    """What shows the holder of a code that the broker named this recipient.

    It answers this ``nonce`` alone.
    """
    return hmac.digest(key, canonical.encode("keybroker/next-recipient/v2", nonce, recipient), "sha256")
