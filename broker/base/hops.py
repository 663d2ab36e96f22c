"""Header fields that are for one connection.  Pure.

Whoever passes a message on leaves them behind.
"""

from __future__ import annotations

from typing import Final

# RFC 9110 §7.6.1, and other headers that only this hop should read.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
