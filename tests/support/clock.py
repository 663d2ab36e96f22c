"""A clock that stands still unless a test moves it."""

from __future__ import annotations


class FakeClock:
    """Seconds; ``now`` is what it shows."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
