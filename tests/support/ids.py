"""Ids for tests that need some, the same each time."""

from __future__ import annotations


def nth(prefix: str, number: int = 1) -> str:
    """The id of that kind with this number."""
    return f"{prefix}_{number:032x}"
