"""What a search compares within the core of an event, as no column has it.  Pure.

That is: the job that the event is about, the request that it came with, and in one word what came of a use.  A column
would be written with every use; the core is there anyway.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

import msgspec

# What the upstream answered: its status by class, or that no answer came.
OutcomeClass = Literal["1xx", "2xx", "3xx", "4xx", "5xx", "none"]
Outcome = Literal["succeeded", "failed", OutcomeClass]
_CLASSES: Final[frozenset[str]] = frozenset(get_args(OutcomeClass))
_GROUPS: Final = {"succeeded": frozenset({"1xx", "2xx", "3xx"}), "failed": frozenset({"4xx", "5xx", "none"})}


class Inside(NamedTuple):
    """What is compared of one event; empty if the event has no such thing."""

    workload: str
    request: str
    outcome: str


class _Outcome(msgspec.Struct, frozen=True, gc=False):
    status: int | None


class _Core(msgspec.Struct, frozen=True, gc=False):
    workload: str = ""
    request: str = ""
    outcome: _Outcome | None = None


_decode = msgspec.json.Decoder(_Core).decode


def inside(core: bytes) -> Inside:
    """What is compared of an event with these bytes."""
    read = _decode(core)
    return Inside(read.workload, read.request, "" if read.outcome is None else _class(read.outcome.status))


def classes(outcome: str) -> frozenset[str]:
    """The classes that a word for outcomes stands for: itself, or those of its group."""
    return _GROUPS.get(outcome, frozenset({outcome}))


def _class(status: int | None) -> str:
    return "none" if status is None or f"{status // 100}xx" not in _CLASSES else f"{status // 100}xx"
