"""For how long an upstream asks everybody who uses a key to wait.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple

from broker.base.moments import number_of, until
from broker.providers.retry import RETRY_AFTER, RateHeader, Retry

# By these an upstream says "not now" rather than "no" (RFC 9110 §15.6).
OUTAGES = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_LONGEST_VALUE = 100
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_PARTS_S = (3600, 60, 1, 0.001)


def pause_of(retry: Retry, status: int, headers: Mapping[str, str], now: int) -> float:
    """For how many seconds nobody calls the upstream with this key.

    That is what it asked for, capped; 0 if it asked for nothing.

    Args:
        retry: what the provider file declares.
        status: of the answer.
        headers: of the answer, by names in any case.
        now: milliseconds since the epoch.
    """
    return min(asked_of(retry, status, headers, now) or 0.0, float(retry.cap_seconds))


def asked_of(retry: Retry, status: int, headers: Mapping[str, str], now: int) -> float | None:
    """For how many seconds the upstream wants no more calls with this key.

    None if the answer isn't about its rate.  Of several headers the strictest counts.  After an outage only
    ``Retry-After`` does (RFC 9110 §10.2.3): headers about rates stand in every answer of some upstreams.  Arguments are
    those of :func:`pause_of`.
    """
    if status in retry.statuses:
        return max(_Said.of(headers, now).times(retry.limits), default=float(retry.otherwise_seconds))
    if status in retry.statuses_with_header:
        said = _Said.of(headers, now)
        certain = [limit for limit in retry.limits if limit.remaining is None or said.left(limit) == 0]
        spent = any(limit.remaining is not None for limit in certain)
        return max(said.times(certain), default=float(retry.otherwise_seconds) if spent else None)
    if status in OUTAGES:
        plain = [limit for limit in retry.limits if limit.name.lower() == RETRY_AFTER.name.lower()]
        return max(_Said.of(headers, now).times(plain), default=None)
    return None


class _Said(NamedTuple):
    """An answer's headers by names in lower case, and when it came (seconds since the epoch)."""

    values: Mapping[str, list[str]]
    now: float

    @classmethod
    def of(cls, headers: Mapping[str, str], now: int) -> _Said:
        values: dict[str, list[str]] = {}
        for name, value in headers.items():  # of some mappings a name comes as often as it was sent
            values.setdefault(name.lower(), []).append(value[:_LONGEST_VALUE].strip())
        return cls(values, now / 1000)

    def left(self, limit: RateHeader) -> float | None:
        """What the limit says is left.

        The least if it says so twice, None if it doesn't.
        """
        said = (number_of(value) for value in self.values.get((limit.remaining or "").lower(), ()))
        return min((number for number in said if number is not None), default=None)

    def times(self, limits: Iterable[RateHeader]) -> Iterator[float]:
        """The seconds that each limit asks for which has nothing left or doesn't say."""
        for limit in limits:
            if not self.left(limit):
                for value in self.values.get(limit.name.lower(), ()):
                    if (seconds := _seconds(value, limit.unit, self.now)) is not None:
                        yield max(seconds, 0.0)


def _seconds(value: str, unit: str, now: float) -> float | None:
    """What a header's value comes to; None if it says nothing."""
    number = number_of(value)
    if unit == "date" or number is None:
        return _duration(value) if unit == "duration" else until(value, now)
    if unit.startswith("epoch"):
        return (number / 1000 if unit == "epoch-milliseconds" else number) - now
    return number / 1000 if unit == "milliseconds" else number


def _duration(value: str) -> float | None:
    found = _DURATION.fullmatch(value)
    if not value or not found:
        return None
    return sum(float(part or 0) * seconds for part, seconds in zip(found.groups(), _PARTS_S, strict=True))
