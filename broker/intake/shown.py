"""The state that a request for a key shows, and which rows show it.

A link is over the moment its time is, and the worker closes its request some time later.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, or_

from broker.base.clock import Millis
from broker.intake.lifecycle import IntakeState
from broker.intake.tables import IntakeRow


def state_of(row: IntakeRow, now: Millis) -> IntakeState:
    """The state that a request shows at ``now``."""
    if row.state == IntakeState.OPEN and row.expires_at <= now:
        return IntakeState.EXPIRED
    return IntakeState(row.state)


def showing(state: IntakeState, now: Millis) -> ColumnElement[bool]:
    """The condition of rows that show this state."""
    over = and_(IntakeRow.state == IntakeState.OPEN, IntakeRow.expires_at <= now)
    if state is IntakeState.EXPIRED:
        return or_(IntakeRow.state == state, over)
    return and_(IntakeRow.state == state, ~over)
