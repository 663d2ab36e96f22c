"""Remember that Vault refused a sign-in, so that it isn't asked again for every call.

After five wrong secret ids without a quarter of an hour between them, Vault locks a role out, for everybody who signs
in with it.  And a sign-in whose token is refused then leaves a token behind each time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.faults import unavailable
from broker.keystore.vault.login import SecretIdRefused

_FIRST_S = 5.0
_LONGEST_S = 60.0
# Longer than Vault counts wrong secret ids: two brokers with one that has ended don't lock out a third.
_UNCOUNTED_S = 1_200.0


class Refusals:
    """How often in a row one credential was refused.

    Another credential, as the file was replaced, may be tried at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._digest = b""
        self._count = 0
        self._until = 0.0
        self._cause = ""

    def check(self, credential: str) -> None:
        """Refuse a credential for as long as it is too early to sign in with it again.

        Raises:
            KeystoreUnavailable: it is too early; the cause is that of the refusal.
        """
        if self._count and self._digest == _digest(credential) and self._clock() < self._until:
            raise unavailable(self._cause)

    def note(self, credential: str, problem: KeystoreUnavailable) -> None:
        """Vault refused ``credential``."""
        digest = _digest(credential)
        self._count = self._count + 1 if digest == self._digest else 1
        self._digest = digest
        pause = min(_LONGEST_S, _FIRST_S * 2 ** (self._count - 1))
        if isinstance(problem, SecretIdRefused) and self._count > 1:
            pause = _UNCOUNTED_S
        self._until = self._clock() + pause
        self._cause = problem.cause

    def forget(self) -> None:
        """Vault has accepted a token."""
        self._count = 0


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode()).digest()
