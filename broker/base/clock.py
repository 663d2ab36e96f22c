"""What time it is: UTC, in whole milliseconds since the epoch, replaceable in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]


def now_ms() -> int:
    """Milliseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """``ms`` since the epoch as RFC 3339 UTC with milliseconds, the form of every time in the API."""
    whole = datetime.fromtimestamp(ms // 1000, UTC).isoformat(timespec="seconds")
    return f"{whole[:-6]}.{ms % 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time that names its offset.

    Raises:
        ValueError: not RFC 3339, or without an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset, for example 2026-11-23T09:00:00Z")
    return int(moment.timestamp() * 1000)
