"""When a call is tried again.  Pure but for its dice."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from broker.providers.retry_after import OUTAGES
from broker.proxy.request_headers import alias

ATTEMPTS = 3
# A job's call is held for so long in all, for retries and for an upstream's pause. Then the job is told to wait.
PATIENCE_S = 10.0
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # RFC 9110 §9.2.2, as far as we forward them
# Preconditions (RFC 9110 §13.1, RFC 4918 §10.4, and clouds' own, such as X-Goog-If-Generation-Match) fail after a try
# whose answer was lost, because of that try. The two that are left out only shorten the answer to a GET.
_PRECONDITION = re.compile(r"(?:.+-)?if(?:-.+)?")
_NO_PRECONDITION = frozenset({"if-modified-since", "if-range"})
_BASE_S = 0.25
_CAP_S = 5.0


class Answered(Protocol):
    """What an answer says about trying again.

    ``asked`` is the seconds for which the upstream wants no more calls, None if the answer isn't about its rate;
    ``bad_key`` says that the upstream refuses the key.
    """

    @property
    def status(self) -> int: ...
    @property
    def asked(self) -> float | None: ...
    @property
    def bad_key(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class HandOver:
    """What came of the try is the job's: the answer, or that there was none."""


class Again(NamedTuple):
    """The call is made again after ``wait`` seconds; ``fall_back`` takes the previous key."""

    wait: float
    fall_back: bool


Step = HandOver | Again


class Attempt(NamedTuple):
    """The try that is made.

    ``patience`` is how many seconds may still be waited.  With ``fall_back`` it takes the previous key.
    """

    number: int = 1
    patience: float = PATIENCE_S
    fall_back: bool = False

    def after(self, step: Again) -> Attempt:
        """The next try."""
        return Attempt(self.number + 1, self.patience - step.wait, step.fall_back)


FIRST = Attempt()


def next_step(answer: Answered | None, attempt: Attempt, may_repeat: Callable[[], bool], *, fallback: bool) -> Step:
    """What is done after a try.

    Args:
        answer: None if none came.
        attempt: the try that was made.
        may_repeat: whether the call may be sent again; asked only if its answer was lost or says "not now".
        fallback: whether the previous key could be taken instead.
    """
    # call (15) hand over, or again
    if attempt.number >= ATTEMPTS:
        return HandOver()
    if answer is not None and answer.bad_key and fallback:
        # Refused for its key, so not carried out: the previous key may serve, whatever the method.
        step = Again(0.0, fall_back=True)
    elif (answer is None or is_transient(answer.status, answer.asked)) and may_repeat():
        pause = 0.0 if answer is None else answer.asked or 0.0
        step = Again(backoff(attempt.number, pause), fall_back=attempt.fall_back)
    else:
        return HandOver()
    return step if step.wait <= attempt.patience else HandOver()


def is_repeatable(method: str, names: Iterable[str]) -> bool:
    """Whether a call may be sent again when its answer is lost or says "not now".

    Args:
        method: in capitals.
        names: of its headers.  If a precondition is among them, the second answer would tell of the first try.
    """
    return method in IDEMPOTENT and not any(
        _PRECONDITION.fullmatch(name) and name not in _NO_PRECONDITION for name in map(alias, names)
    )


def is_transient(status: int, asked: float | None) -> bool:
    """Whether this answer says "not now" rather than "no".

    ``asked`` is None if the answer isn't about the upstream's rate.
    """
    return asked is not None or status in OUTAGES


def backoff(attempt: int, pause: float = 0.0) -> float:
    """Seconds to wait after the ``attempt``-th try (from 1), with full jitter.

    They are never less than ``pause``, which the upstream asked for.
    """
    ceiling = min(_CAP_S, _BASE_S * 2**attempt)
    return pause + random.uniform(0, ceiling)  # noqa: S311 - spreads callers, guards nothing
