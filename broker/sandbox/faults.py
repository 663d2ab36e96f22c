"""What goes wrong on purpose: latency, an outage, a rate limit."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WINDOW_S = 60.0
_LIMITS = {"latency_ms": (0, 60_000), "status": (400, 599), "rate_limit_per_minute": (0, 10_000)}


@dataclass(slots=True)
class Faults:
    """What goes wrong on purpose.  While ``outage`` is set, every call gets ``status``."""

    latency_ms: int = 0
    outage: bool = False
    status: int = 503
    rate_limit_per_minute: int | None = None


def read(fields: Mapping[str, Any]) -> Faults:
    """The faults that ``fields`` ask for; a field that is left out is no fault.

    Raises:
        ValueError: a field is unknown or of a wrong kind.
    """
    for name, value in fields.items():
        if name == "outage":
            if not isinstance(value, bool):
                raise ValueError("outage must be true or false")
        elif name not in _LIMITS:
            raise ValueError(f"Unknown field: {name}")
        elif not (name == "rate_limit_per_minute" and value is None):
            low, high = _LIMITS[name]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return Faults(**fields)


def seconds_to_wait(recent: deque[float], per_minute: int | None) -> int:
    """How long one more call has to wait.

    It is 0 if the call is within the limit; then the call is counted in ``recent``.
    """
    if per_minute is None:
        return 0
    now = time.monotonic()
    while recent and recent[0] <= now - _WINDOW_S:
        recent.popleft()
    if len(recent) >= per_minute:
        return max(1, math.ceil(recent[0] + _WINDOW_S - now)) if recent else 1
    recent.append(now)
    return 0
