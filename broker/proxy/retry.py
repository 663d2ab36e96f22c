"""When a call is tried again.  Pure but for its dice."""

from __future__ import annotations

import random

from broker.providers.pause import OUTAGES

ATTEMPTS = 3
# How long a job's call is held for retries and for an upstream's pause, in all, before the job is told to wait.
PATIENCE_S = 10.0
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # RFC 9110 §9.2.2, as far as we forward them
_BASE_S = 0.25
_CAP_S = 5.0


def is_transient(status: int, asked: float | None) -> bool:
    """Whether this answer says "not now" rather than "no"; ``asked`` is None where it isn't about upstream's rate."""
    return asked is not None or status in OUTAGES


def backoff(attempt: int, pause: float = 0.0) -> float:
    """Seconds to wait after the ``attempt``-th try (from 1): full jitter, and never less than upstream asked for."""
    ceiling = min(_CAP_S, _BASE_S * 2**attempt)
    return pause + random.uniform(0, ceiling)  # noqa: S311 - spreads callers, guards nothing
