"""What stops if an organization, a key, a job or a grant is revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, case, exists, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Millis
from broker.base.validity import Validity
from broker.credentials.lifecycle import State
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import OrganizationId, WorkloadId
from broker.grants.shown import GrantState, showing
from broker.grants.tables import GrantRow
from broker.leases.access_holders import stands
from broker.leases.tables import LeaseRow

# A job that leased a key within so many days counts as one that needs it.
DAYS = 7

_ENDED_BY_REVOKING = (State.VERIFIED, State.ACTIVE, State.RETIRING)


@dataclass(frozen=True, slots=True)
class Dependents:
    """What stops: credentials, their keys, rights to them, leases that stand, and whose work.

    ``workloads`` are the jobs that held a lease in the last days, those with the latest first.
    """

    credentials: int
    versions: int
    grants: int
    open_leases: int
    workloads: Sequence[WorkloadId]


@dataclass(frozen=True, slots=True)
class Cut:
    """What would be revoked, as conditions of the rows that go with it."""

    credentials: ColumnElement[bool]
    grants: ColumnElement[bool]
    leases: ColumnElement[bool]


def organization(organization_id: OrganizationId) -> Cut:
    """An organization, with everything of it."""
    return Cut(
        CredentialRow.organization_id == organization_id,
        GrantRow.organization_id == organization_id,
        LeaseRow.organization_id == organization_id,
    )


def credential(row: CredentialRow) -> Cut:
    """A credential; the rights to it are those that name its label, and those to every label."""
    return Cut(
        CredentialRow.id == row.id,
        and_(
            GrantRow.organization_id == row.organization_id,
            GrantRow.provider == row.provider,
            or_(GrantRow.label == row.label, GrantRow.label.is_(None)),
        ),
        LeaseRow.credential_id == row.id,
    )


def workload(workload_id: WorkloadId, now: Millis) -> Cut:
    """A job; the keys are those that it has a right to now."""
    its = and_(GrantRow.workload_id == workload_id, showing(GrantState.ACTIVE, now).condition)
    covered = exists().where(
        its,
        GrantRow.organization_id == CredentialRow.organization_id,
        GrantRow.provider == CredentialRow.provider,
        or_(GrantRow.label == CredentialRow.label, GrantRow.label.is_(None)),
    )
    # By the organizations first, which have an index: a job has few rights, and there may be a million keys.
    theirs = CredentialRow.organization_id.in_(select(GrantRow.organization_id).where(its))
    return Cut(and_(theirs, covered), GrantRow.workload_id == workload_id, LeaseRow.workload_id == workload_id)


def grant(row: GrantRow) -> Cut:
    """A grant; the keys are those that it gives a right to."""
    keys = [CredentialRow.organization_id == row.organization_id, CredentialRow.provider == row.provider]
    if row.label is not None:
        keys.append(CredentialRow.label == row.label)
    return Cut(
        and_(*keys),
        GrantRow.id == row.id,
        and_(LeaseRow.workload_id == row.workload_id, LeaseRow.grant_id == row.id),
    )


def together(cuts: Sequence[Cut]) -> Cut:
    """Everything of several cuts; what is in two of them counts once."""
    return Cut(
        or_(false(), *(cut.credentials for cut in cuts)),
        or_(false(), *(cut.grants for cut in cuts)),
        or_(false(), *(cut.leases for cut in cuts)),
    )


async def of(session: AsyncSession, cut: Cut, now: Millis) -> Dependents:
    """What stops at this cut, as far as the session may see it."""
    credentials, versions = (await session.execute(_keys(cut))).one()
    grants = select(func.count()).select_from(GrantRow).where(cut.grants, showing(GrantState.ACTIVE, now).condition)
    leased = (await session.execute(_leased(cut, now))).all()
    return Dependents(
        credentials,
        versions,
        await session.scalar(grants) or 0,
        sum(open_ for _, open_ in leased),
        [workload_id for workload_id, _ in leased],
    )


def _keys(cut: Cut) -> Select[int, int]:
    held = and_(VersionRow.credential_id == CredentialRow.id, VersionRow.state.in_(_ENDED_BY_REVOKING))
    return (
        select(func.count(func.distinct(CredentialRow.id)), func.count(VersionRow.number))
        .outerjoin_from(CredentialRow, VersionRow, held)
        .where(CredentialRow.state == Validity.ACTIVE, cut.credentials)
    )


def _leased(cut: Cut, now: Millis) -> Select[WorkloadId, int]:
    # Whoever used a key had a lease that stood at that time, so leases tell of uses too.
    recently = func.coalesce(LeaseRow.ended_at, LeaseRow.expires_at) > now - DAYS * DAY_MS
    return (
        select(LeaseRow.workload_id, func.sum(case((stands(now), 1), else_=0)))
        .where(cut.leases, recently)
        .group_by(LeaseRow.workload_id)
        .order_by(func.max(LeaseRow.issued_at).desc(), LeaseRow.workload_id)
    )
