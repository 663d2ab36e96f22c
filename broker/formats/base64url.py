"""Bytes as text that is safe in addresses and headers: base64url without padding (RFC 4648 §5), in one spelling.

Of the last character not every bit may count, and lax readers skip letters that they don't know; so that no two texts
stand for the same bytes, only what :func:`encode` prints is read.
"""

from __future__ import annotations

import base64


def encode(data: bytes) -> str:
    """The text of these bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text that :func:`encode` printed.

    Raises:
        ValueError: it printed no such text.
    """
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode(data) != text:
        raise ValueError("not the one spelling of any bytes")
    return data
