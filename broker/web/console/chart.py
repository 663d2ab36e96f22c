"""Uses and refusals by day, as the bars of a plain SVG.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from broker.base.clock import DAY_MS, Millis, rfc3339
from broker.leases.days import Did

DAYS: Final = 30
# Units of the picture: it is stretched to the width that there is.
WIDTH, HEIGHT = 20, 100


@dataclass(frozen=True, slots=True)
class Bar:
    """A day: its date, its numbers, and where its two parts stand in the picture, from the top."""

    date: str
    uses: int
    refusals: int
    x: int
    use_height: float
    refusal_height: float


def bars(days: Mapping[int, Did], now: Millis) -> Sequence[Bar]:
    """The last days until today, oldest first; a day of which nothing is known has none of both."""
    today = now // DAY_MS
    shown = [(day, days.get(day, Did())) for day in range(today - DAYS + 1, today + 1)]
    most = max(1, *(did.uses + did.refusals for _, did in shown))
    return [
        Bar(
            rfc3339(day * DAY_MS)[:10],
            did.uses,
            did.refusals,
            at * WIDTH,
            _height(did.uses, most),
            _height(did.refusals, most),
        )
        for at, (day, did) in enumerate(shown)
    ]


def _height(number: int, most: int) -> float:
    # What there is, is seen.
    return max(2.0, round((HEIGHT - 4) * number / most, 1)) if number else 0.0
