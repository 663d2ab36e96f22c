"""What time it is: UTC, in whole milliseconds since the epoch, replaceable in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NewType

# A point in time: milliseconds since 1970-01-01T00:00:00Z.  How long something takes is an int.
Millis = NewType("Millis", int)
Clock = Callable[[], Millis]

DAY_MS = 86_400_000

# Clocks that are further apart than this no longer go together.
APART_MS = 60_000
# What another replica dated may be so far ahead here: each may be a minute off their database, and then some.
_AHEAD_MS = 300_000
# Goes on while the machine sleeps, if the system has such a clock.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> Millis:
    """Milliseconds since 1970-01-01T00:00:00Z."""
    return Millis(time.time_ns() // 1_000_000)


def later(than: Millis, ms: int) -> Millis:
    """The point in time so many milliseconds after another."""
    return Millis(than + ms)


def of_seconds(since_epoch: int) -> Millis:
    """The point in time that a JWT or a header names in whole seconds."""
    return Millis(since_epoch * 1000)


def steady_ms() -> int:
    """Milliseconds since some moment, whatever is done to the system's clock."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000


class Timepiece:
    """The time that a process goes by: a :data:`Clock` that doesn't jump.

    It is the system's clock for as long as that goes evenly.  If the system's clock jumps, time goes on by the steady
    clock, until whoever compares it with others (:mod:`broker.audit.timekeeping`) sets it.  By itself it never goes
    back.
    """

    def __init__(self, system: Clock = now_ms, steady: Callable[[], int] = steady_ms) -> None:
        self._system = system
        self.steady = steady
        self._latest = self._moment = system()
        self._at = steady()
        self._counts_from = Millis(0)

    def __call__(self) -> Millis:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        system, steady = self._system(), self.steady()
        due = self._moment + steady - self._at
        if abs(system - due) <= APART_MS:
            due = self._moment = system
            self._at = steady
        if due > self._latest:
            self._latest = Millis(due)
        return self._latest

    @property
    def apart(self) -> int:
        """How far the system's clock is ahead of the time that the process goes by."""
        return self._system() - self()

    def set(self, to: Millis) -> None:
        """Go on from ``to``; if that is back in time, also :meth:`void`."""
        back = to < self()
        self._latest = self._moment = to
        self._at = self.steady()
        if back:
            self.void()

    def void(self) -> None:
        """Let nothing count that is dated before now.

        A later time was acted on already, and what had expired by then stays expired.
        """
        self._counts_from = self()

    def counts(self, moment: Millis, now: Millis | None = None) -> bool:
        """Whether what is dated so counts; ``now`` is the time if that is known.

        It doesn't if it is from before the time was set back, or from a time that never came.
        """
        return self._counts_from <= moment <= (self() if now is None else now) + _AHEAD_MS

    @property
    def counted(self) -> tuple[Millis, Millis]:
        """The first and the last of the moments that count."""
        return self._counts_from, later(self(), _AHEAD_MS)


def rfc3339(ms: int) -> str:
    """``ms`` since the epoch as RFC 3339 UTC with milliseconds: every time in the API."""
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(maxsize=1024)  # what is answered within a second names few others
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).isoformat(timespec="seconds")[:-6]


def parse_rfc3339(text: str) -> Millis:
    """Milliseconds since the epoch of an RFC 3339 time that names its offset.

    Raises:
        ValueError: not RFC 3339, or without an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset, for example 2026-11-23T09:00:00Z")
    return Millis(int(moment.timestamp() * 1000))
