"""What a step raises where its process ends in a test."""

from __future__ import annotations


class Crash(Exception):
    """The process ended here."""
