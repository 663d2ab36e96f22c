"""Days of forms as times of the API: all days are those of UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def start_of(day: date | None) -> datetime | None:
    """When a day begins; None if none is given."""
    return None if day is None else datetime.combine(day, time(), UTC)


def end_of(day: date | None) -> datetime | None:
    """When a day is over."""
    return None if day is None else datetime.combine(day, time(), UTC) + timedelta(days=1)
