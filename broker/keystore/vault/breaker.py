"""Leave a Vault alone that doesn't answer, and look again soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_FAILURES = 3
_REST_S = 1.0


class Breaker:
    """Opens after three failures in a row; then one call a second looks if Vault answers again.

    Used from several threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._cause = ""

    def refusal(self) -> str | None:
        """Why no call may be tried now; None if one may."""
        with self._lock:
            if self._failures < _FAILURES:
                return None
            now = self._clock()
            if now < self._until:
                return self._cause
            self._until = now + _REST_S  # whoever comes next waits for how this one ends
            return None

    def succeeded(self) -> None:
        """A call was answered."""
        with self._lock:
            self._failures = 0

    def failed(self, cause: str) -> None:
        """A call was not answered; ``cause`` is what later callers are told."""
        with self._lock:
            self._failures += 1
            self._until = self._clock() + _REST_S
            self._cause = cause
