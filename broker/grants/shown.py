"""The state that a grant shows, and which rows show it."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ColumnElement, and_, or_

from broker.base.clock import Millis
from broker.base.validity import Validity
from broker.grants.tables import GrantRow
from broker.identity.approval import APPROVAL_MS, in_force, shown_state


class GrantState(StrEnum):
    """Where a grant stands, for whoever reads a list."""

    ACTIVE = "active"
    WAITING = "waiting"  # for a second person
    EXPIRED = "expired"  # its time is over, or nobody approved it in time
    REVOKED = "revoked"
    ALTERED = "altered"  # something else than the broker wrote it: it gives nothing


def state_of(row: GrantRow, now: Millis) -> GrantState:
    """The state that a grant shows at ``now``."""
    if not row.genuine and row.state != Validity.REVOKED:
        return GrantState.ALTERED
    if in_force(row) and row.expires_at is not None and row.expires_at <= now:
        return GrantState.EXPIRED
    return GrantState(shown_state(row, now))


def showing(state: GrantState, now: Millis) -> ColumnElement[bool]:
    """The condition of rows that show this state; altered ones meet those of others too.

    Whether a row is altered, the database can't tell.
    """
    standing = GrantRow.state == Validity.ACTIVE
    missing = and_(GrantRow.needs_approval.is_(True), GrantRow.approved_by.is_(None))
    in_time = GrantRow.created_at > now - APPROVAL_MS
    over = and_(GrantRow.expires_at.is_not(None), GrantRow.expires_at <= now)
    conditions = {
        GrantState.ACTIVE: and_(standing, ~missing, ~over),
        GrantState.WAITING: and_(standing, missing, in_time),
        GrantState.EXPIRED: and_(standing, or_(and_(missing, ~in_time), and_(~missing, over))),
        GrantState.REVOKED: GrantRow.state == Validity.REVOKED,
        GrantState.ALTERED: standing,
    }
    return conditions[state]
