"""Where a review stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from broker.base.clock import DAY_MS

# So long before its due date people are told of a review.
LEAD_MS: Final = 30 * DAY_MS


class ReviewState(StrEnum):
    """Where a review stands; the worker looks each hour which are due, or overdue."""

    SCHEDULED = "scheduled"
    DUE = "due"
    OVERDUE = "overdue"
    DECIDED = "decided"
    ENDED = "ended"  # what was to be reviewed gives nothing any more
