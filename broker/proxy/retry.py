"""When a call is tried again, and how long an upstream asked everybody to wait.  Pure but for its dice."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from broker.providers.definition import Retry

ATTEMPTS = 3
# How long a job's call is held for retries and for an upstream's pause, in all, before the job is told to wait.
PATIENCE_S = 10.0
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # RFC 9110 §9.2.2, as far as we forward them
_OUTAGES = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_BASE_S = 0.25
_CAP_S = 5.0
_UNNAMED_PAUSE_S = 1.0


def is_transient(retry: Retry, status: int) -> bool:
    """Whether this answer says "not now" rather than "no"."""
    return status in retry.statuses or status in _OUTAGES


def backoff(attempt: int, pause: float = 0.0) -> float:
    """Seconds to wait after the ``attempt``-th try (from 1): full jitter, and never less than upstream asked for."""
    ceiling = min(_CAP_S, _BASE_S * 2**attempt)
    return pause + random.uniform(0, ceiling)  # noqa: S311 - spreads callers, guards nothing


def pause_of(retry: Retry, status: int, headers: Mapping[str, str], now: int) -> float:
    """For how many seconds upstream wants no more calls with this key; 0 where the answer isn't about its rate.

    Args:
        retry: what the provider file declares.
        status: of the answer.
        headers: of the answer, by names in any case.
        now: milliseconds since the epoch.
    """
    if status not in retry.statuses:
        return 0.0
    asked = _seconds(headers.get(retry.header, ""), retry.unit, now / 1000)
    return min(max(asked, 0.0), float(retry.cap_seconds))


def _seconds(value: str, unit: str, now: float) -> float:
    try:
        number = float(value)
    except ValueError:
        return _until(value, now)
    if number != number or number in {float("inf"), float("-inf")}:  # noqa: PLR0124 - not a number
        return _UNNAMED_PAUSE_S
    return {"seconds": number, "milliseconds": number / 1000, "epoch": number - now}[unit]


def _until(date: str, now: float) -> float:
    """``Retry-After`` may also be a date (RFC 9110 §10.2.3)."""
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return _UNNAMED_PAUSE_S
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
