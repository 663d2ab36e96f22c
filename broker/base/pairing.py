"""What a page and the program that opened it know of each other (RFC 7636).  Pure.

The challenge is for the program's server, and the code is for people who compare both, or type it (RFC 8628).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from broker.formats import base64url

# How a command line without a browser calls itself, and what it asks for (RFC 8628 §3.4).  It has no secret:
# everybody has the program.
DEVICE_CLIENT: Final = "broker-cli"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
# No vowel, so they make no words; no letter that is taken for another one.
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
# Of a code that is typed: one of 25,600 million, so that few guesses meet none (RFC 8628 §5.1).
TYPED_LENGTH: Final = 8
_BETWEEN: Final = re.compile(r"[\s-]+")


def challenge_of(verifier: str) -> str:
    """The challenge of a verifier, by S256."""
    return base64url.encode(hashlib.sha256(verifier.encode()).digest())


def code_of(challenge: str) -> str:
    """Four letters of a challenge (RFC 7636), such as ``KX-WB``."""
    digest = hashlib.sha256(b"keybroker/login/v1\0" + challenge.encode()).digest()
    return in_two("".join(LETTERS[each % len(LETTERS)] for each in digest[:4]))


def in_two(letters: str) -> str:
    """A code as people read it: in two halves."""
    half = len(letters) // 2
    return f"{letters[:half]}-{letters[half:]}"


def letters_of(typed: str) -> str:
    """The letters of a code as somebody typed it, in any case and with any gaps.

    Empty if it can be no code.
    """
    letters = _BETWEEN.sub("", typed).upper()
    return letters if len(letters) == TYPED_LENGTH and set(letters) <= set(LETTERS) else ""
