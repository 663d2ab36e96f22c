"""Ids for tests that need some, the same each time."""

from __future__ import annotations

from hashlib import sha256


def nth(prefix: str, number: int = 1) -> str:
    """The id of that kind with this number."""
    return f"{prefix}_{number:032x}"


def named(prefix: str, name: object) -> str:
    """The id of that kind that stands for a name in a test."""
    return f"{prefix}_{sha256(str(name).encode()).hexdigest()[:32]}"
