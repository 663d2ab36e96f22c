"""The code by which people see that their own command has opened a page.  Pure."""

from __future__ import annotations

import hashlib
from typing import Final

# No vowel, so they make no words; no letter that is taken for another one.
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"


def code_of(challenge: str) -> str:
    """Four letters of a challenge (RFC 7636), such as ``KX-WB``."""
    digest = hashlib.sha256(b"keybroker/login/v1\0" + challenge.encode()).digest()
    letters = "".join(_LETTERS[each % len(_LETTERS)] for each in digest[:4])
    return f"{letters[:2]}-{letters[2:]}"
