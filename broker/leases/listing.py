"""Which leases a list has, and the state that each shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import and_, or_
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis, Timepiece
from broker.base.paging import Cut, Filter, Sheet, Way, by, found, sheet
from broker.formats.ids import OrganizationId, WorkloadId
from broker.leases.access_holders import stands
from broker.leases.lease import Lease
from broker.leases.tables import LeaseRow

REVOKED = "lease.revoked"  # the reason of an end that an operator, or an exposure, brought about


class LeaseState(StrEnum):
    """Where a lease stands by itself.  A cut-off of what it relies on shows there."""

    ACTIVE = "active"
    EXPIRED = "expired"
    ENDED = "ended"
    REVOKED = "revoked"


def state_of(lease: Lease, now: Millis) -> LeaseState:
    """The state that a lease shows at ``now``."""
    if lease.ended_at is not None:
        return LeaseState.REVOKED if lease.end_reason == REVOKED else LeaseState.ENDED
    return LeaseState.ACTIVE if lease.stands(now) else LeaseState.EXPIRED


@dataclass(frozen=True, slots=True)
class Sought:
    """Which leases are wanted; what is None matches any."""

    workload_id: WorkloadId | None = None
    organization: OrganizationId | None = None
    provider: str | None = None
    state: LeaseState | None = None


async def listed(session: AsyncSession, wanted: Sought, clock: Timepiece, now: Millis, cut: Cut) -> Sheet[LeaseRow]:
    """The rows of the leases that are wanted, by the time of their issue.

    States are those of ``now``.

    Raises:
        Invalid: the cursor is not one of this list.
    """
    row = LeaseRow
    filters = (
        by(row.organization_id, wanted.organization),
        by(row.workload_id, wanted.workload_id),
        None if wanted.state is None else _showing(wanted.state, clock, now),
        by(row.provider, wanted.provider),
    )
    return await sheet(session, row, filters, cut, row.issued_at, row.id)


def _showing(state: LeaseState, clock: Timepiece, now: Millis) -> Filter:
    # As Leasing.counted has them.
    row, (since, until) = LeaseRow, clock.counted
    open_, over, revoked = row.ended_at.is_(None), row.ended_at.is_not(None), row.end_reason == REVOKED
    counts = and_(row.issued_at >= since, row.issued_at <= until)
    # Those that stand are few beside those that have expired, so they are found by the time that they have left, and
    # sorted: no index has the sum.
    standing = Way((open_, row.expires_at > now), (row.issued_at + 0, row.id))
    # Before and after the time that counts.
    uncounted = Way((open_, row.issued_at < since)), Way((open_, row.issued_at > until))
    filters = {
        LeaseState.ACTIVE: Filter(and_(stands(now), counts), (standing,), whole=False),
        LeaseState.EXPIRED: Filter(and_(open_, counts, ~stands(now)), (Way((open_,)),), whole=False),
        LeaseState.ENDED: Filter(
            or_(and_(over, ~revoked), and_(open_, ~counts)), (Way((over,)), *uncounted), whole=False
        ),
        LeaseState.REVOKED: found(over, revoked),
    }
    return filters[state]
