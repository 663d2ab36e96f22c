"""When a call is tried again.  Pure but for its dice."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from broker.providers.retry_after import OUTAGES
from broker.proxy.request_headers import alias

ATTEMPTS = 3
# How long a job's call is held for retries and for an upstream's pause, in all, before the job is told to wait.
PATIENCE_S = 10.0
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # RFC 9110 §9.2.2, as far as we forward them
# Preconditions (RFC 9110 §13.1, RFC 4918 §10.4, and clouds' own, such as X-Goog-If-Generation-Match): after a try
# whose answer was lost they fail because of it.  The two that are left out only shorten the answer to a GET.
_PRECONDITION = re.compile(r"(?:.+-)?if(?:-.+)?")
_NO_PRECONDITION = frozenset({"if-modified-since", "if-range"})
_BASE_S = 0.25
_CAP_S = 5.0


def is_repeatable(method: str, names: Iterable[str]) -> bool:
    """Whether a call may be sent again when its answer is lost or says "not now".

    Args:
        method: in capitals.
        names: of its headers.  With a precondition among them the second answer would tell of the first try.
    """
    return method in IDEMPOTENT and not any(
        _PRECONDITION.fullmatch(name) and name not in _NO_PRECONDITION for name in map(alias, names)
    )


def is_transient(status: int, asked: float | None) -> bool:
    """Whether this answer says "not now" rather than "no"; ``asked`` is None where it isn't about upstream's rate."""
    return asked is not None or status in OUTAGES


def backoff(attempt: int, pause: float = 0.0) -> float:
    """Seconds to wait after the ``attempt``-th try (from 1): full jitter, and never less than upstream asked for."""
    ceiling = min(_CAP_S, _BASE_S * 2**attempt)
    return pause + random.uniform(0, ceiling)  # noqa: S311 - spreads callers, guards nothing
