"""The state that a grant shows, and which rows show it."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import and_, or_

from broker.base.clock import Millis
from broker.base.paging import Filter, Way, by
from broker.base.validity import Validity
from broker.formats.ids import OrganizationId, WorkloadId
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


def showing(state: GrantState, now: Millis) -> Filter:
    """The filter of rows that show this state; altered ones meet those of others too.

    Whether a row is altered, the database can't tell.
    """
    standing, row = GrantRow.state == Validity.ACTIVE, GrantRow
    missing = and_(row.needs_approval.is_(True), row.approved_by.is_(None))
    in_time = row.created_at > now - APPROVAL_MS
    over = and_(row.expires_at.is_not(None), row.expires_at <= now)
    unapproved, ending = Way((standing, missing)), Way((standing, row.expires_at.is_not(None)))
    filters = {
        GrantState.ACTIVE: Filter(and_(standing, ~missing, ~over), (Way((standing,)),), whole=False),
        GrantState.WAITING: Filter(and_(standing, missing, in_time), (unapproved,), whole=False),
        GrantState.EXPIRED: Filter(
            and_(standing, or_(and_(missing, ~in_time), and_(~missing, over))), (unapproved, ending), whole=False
        ),
        GrantState.REVOKED: Filter(row.state == Validity.REVOKED, (Way((row.state == Validity.REVOKED,)),)),
        GrantState.ALTERED: Filter(standing, (Way((standing,)),)),
    }
    return filters[state]


def covering(label: str) -> Filter:
    """The filter of rows that cover this label: they name it, or none."""
    named, every = GrantRow.label == label, GrantRow.label.is_(None)
    return Filter(or_(named, every), (Way((named,)), Way((every,))))


def given(workload: WorkloadId | None, organization: OrganizationId | None) -> tuple[Filter | None, ...]:
    """The filters of what this job was given for this organization; None stands for any."""
    if workload is None or organization is None:
        return by(GrantRow.organization_id, organization), by(GrantRow.workload_id, workload)
    both = and_(GrantRow.workload_id == workload, GrantRow.organization_id == organization)
    return (Filter(both, (Way((both,)),), tenant=True),)
