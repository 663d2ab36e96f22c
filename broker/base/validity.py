"""Whether something that gives rights is in force.

It is ``active`` until it is revoked, which is for good.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from broker.base.clock import Millis


class Validity(StrEnum):
    """Where an organization, operator, workload, grant or credential stands."""

    ACTIVE = "active"
    REVOKED = "revoked"


class Revocable(Protocol):
    """A row that is active or revoked, and says since when."""

    state: Any
    revoked_at: Any


def revoke(row: Revocable, now: Millis) -> bool:
    """End a row at ``now``, in milliseconds.

    False if it had ended already; it then keeps its time.
    """
    if row.state == Validity.REVOKED:
        return False
    row.state, row.revoked_at = Validity.REVOKED, now
    return True
