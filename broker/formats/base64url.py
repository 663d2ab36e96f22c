"""Bytes as text for addresses and headers: base64url without padding (RFC 4648 §5).

Only the text that :func:`encode` prints is read, so no two texts stand for the same bytes.  Otherwise they could: some
bits of the last character may not count, and lax readers skip letters that they don't know.
"""

from __future__ import annotations

import base64


def encode(data: bytes) -> str:
    """The text of these bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text that :func:`encode` printed.

    Raises:
        ValueError: :func:`encode` prints no such text.
    """
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode(data) != text:
        raise ValueError("not the one spelling of any bytes")
    return data
