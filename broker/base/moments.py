"""When to come back, as ``Retry-After`` (RFC 9110 §10.2.3) and its kin say it.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite


def seconds_asked(value: str, now: float) -> float | None:
    """The seconds that a ``Retry-After`` comes to, at ``now`` (seconds since the epoch).

    None if it says nothing.
    """
    number = number_of(value)
    return until(value, now) if number is None else number


def number_of(value: str) -> float | None:
    """A finite number; None if it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None


def until(date: str, now: float) -> float | None:
    """Seconds until a date of HTTP (RFC 9110 §5.6.7) or RFC 3339; None if it is no date."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(date)
        except (ValueError, OverflowError):
            continue
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
    return None
