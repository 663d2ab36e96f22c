"""Which leases a list has, and the state that each shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import aliased

from broker.base.clock import Millis, Timepiece
from broker.formats.ids import OrganizationId, Reference, WorkloadId
from broker.leases.access_holders import stands
from broker.leases.lease import Lease
from broker.leases.tables import LeaseRow
from broker.organizations.commands import referred
from broker.organizations.tables import OrganizationRow

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
    """Which leases are wanted; what is None matches any.

    ``after`` is the id of the one after which to begin, empty for the first.  Ids follow each other in time, but for
    those of leases that were asked for with an idempotency key; ``newest`` goes by the time itself, backwards.
    """

    workload_id: WorkloadId | None = None
    organization: Reference | OrganizationId | None = None
    provider: str | None = None
    state: LeaseState | None = None
    after: str = ""
    newest: bool = False


def sought(wanted: Sought, clock: Timepiece, now: Millis) -> Select[LeaseRow]:
    """The rows of the leases that are wanted, in their order; states are those of ``now``."""
    query = select(LeaseRow)
    if wanted.state is not None:
        query = query.where(_showing(wanted.state, clock, now))
    if wanted.workload_id is not None:
        query = query.where(LeaseRow.workload_id == wanted.workload_id)
    if wanted.organization is not None:
        named = select(OrganizationRow.id).where(referred(wanted.organization))
        query = query.where(LeaseRow.organization_id.in_(named))
    if wanted.provider is not None:
        query = query.where(LeaseRow.provider == wanted.provider)
    if not wanted.newest:
        return query.where(LeaseRow.id > wanted.after).order_by(LeaseRow.id)
    if wanted.after:
        before = aliased(LeaseRow)
        at = select(before.issued_at).where(before.id == wanted.after).scalar_subquery()
        query = query.where(or_(LeaseRow.issued_at < at, and_(LeaseRow.issued_at == at, LeaseRow.id < wanted.after)))
    return query.order_by(LeaseRow.issued_at.desc(), LeaseRow.id.desc())


def _showing(state: LeaseState, clock: Timepiece, now: Millis) -> ColumnElement[bool]:
    # As Leasing.counted has them.
    row, (since, until) = LeaseRow, clock.counted
    open_, revoked = row.ended_at.is_(None), row.end_reason == REVOKED
    counts = and_(row.issued_at >= since, row.issued_at <= until)
    conditions = {
        LeaseState.ACTIVE: and_(stands(now), counts),
        LeaseState.EXPIRED: and_(open_, counts, ~stands(now)),
        LeaseState.ENDED: or_(and_(~open_, ~revoked), and_(open_, ~counts)),
        LeaseState.REVOKED: and_(~open_, revoked),
    }
    return conditions[state]
