"""What proofs have to hold, so that none is made ahead of its use (RFC 9449 §8).

::

    nonce = base64url(seconds since the epoch, 4 bytes | HMAC-SHA256(key, those 4 bytes), 12 bytes)

Every replica has the key, so each knows what another gave, and none keeps anything.
"""

from __future__ import annotations

import hmac
from typing import Final

from broker.base.clock import Clock
from broker.formats import base64url

# It is another one every minute, and taken for so long.
_STEP_S: Final = 60
LASTS_S: Final = 300
# Replicas' clocks may differ by so much.
SKEW_S: Final = 60
_TAG_BYTES: Final = 12
_CONTEXT: Final = b"keybroker/dpop-nonce/v1\0"


class Nonces:
    """Gives nonces and knows them again."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self._given = (-1, "")

    def current(self) -> str:
        """The nonce of this minute."""
        at = self._clock() // 1000 // _STEP_S * _STEP_S
        if self._given[0] != at:
            self._given = (at, self._made(at))
        return self._given[1]

    def takes(self, unverified: object) -> bool:
        """Whether a replica gave this not long ago."""
        if unverified == self.current():
            return True
        if not isinstance(unverified, str) or len(unverified) != len(self._given[1]):
            return False
        try:
            at = int.from_bytes(base64url.decode(unverified)[:4])
        except ValueError:
            return False
        age = self._clock() // 1000 - at
        return -SKEW_S <= age <= LASTS_S and hmac.compare_digest(unverified.encode(), self._made(at).encode())

    def _made(self, at: int) -> str:
        stamp = at.to_bytes(4)
        return base64url.encode(stamp + hmac.digest(self._key, _CONTEXT + stamp, "sha256")[:_TAG_BYTES])
