"""What a page and the program that opened it know of each other (RFC 7636).  Pure.

The challenge is for the program's server, and the code is for people who compare both.
"""

from __future__ import annotations

import hashlib
from typing import Final

from broker.formats import base64url

# No vowel, so they make no words; no letter that is taken for another one.
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"


def challenge_of(verifier: str) -> str:
    """The challenge of a verifier, by S256."""
    return base64url.encode(hashlib.sha256(verifier.encode()).digest())


def code_of(challenge: str) -> str:
    """Four letters of a challenge (RFC 7636), such as ``KX-WB``."""
    digest = hashlib.sha256(b"keybroker/login/v1\0" + challenge.encode()).digest()
    letters = "".join(_LETTERS[each % len(_LETTERS)] for each in digest[:4])
    return f"{letters[:2]}-{letters[2:]}"
