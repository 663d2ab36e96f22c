"""The state that a request for a key shows, and which rows show it.

A link is over the moment its time is, and the worker closes its request some time later.
"""

from __future__ import annotations

from sqlalchemy import and_, or_

from broker.base.clock import Millis
from broker.base.paging import Filter, Way
from broker.intake.lifecycle import IntakeState
from broker.intake.tables import IntakeRow


def state_of(row: IntakeRow, now: Millis) -> IntakeState:
    """The state that a request shows at ``now``."""
    if row.state == IntakeState.OPEN and row.expires_at <= now:
        return IntakeState.EXPIRED
    return IntakeState(row.state)


def showing(state: IntakeState, now: Millis) -> Filter:
    """The filter of rows that show this state."""
    in_state, is_open = IntakeRow.state == state, IntakeRow.state == IntakeState.OPEN
    over = IntakeRow.expires_at <= now
    if state is IntakeState.EXPIRED:
        return Filter(or_(in_state, and_(is_open, over)), (Way((in_state,)), Way((is_open,))), whole=False)
    if state is IntakeState.OPEN:
        return Filter(and_(is_open, ~over), (Way((is_open,)),), whole=False)
    return Filter(in_state, (Way((in_state,)),))
