"""For how long an upstream asks everybody who uses a key to wait.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from broker.providers.definition import Retry

_UNNAMED_PAUSE_S = 1.0


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
