"""Which jobs a limited account may see, end and grant to.

Such an account is limited to some customers.  Jobs are no tenant's, so neither fence between tenants says anything of
them; their grants tell whom they work for.  A job is within an account's limits if it holds a grant for one of its
customers, or was made by it, and holds none for anybody else.  A job that works for others as well is ended by somebody
who may decide for them.  For its own customers the account takes the grants back.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.audit.guards import raise_epoch
from broker.base.clock import Millis
from broker.base.errors import Conflict, Forbidden
from broker.base.paging import Filter, looked_at
from broker.base.validity import Validity
from broker.formats.ids import Reference
from broker.grants.tables import GrantRow
from broker.identity import workloads
from broker.identity.principal import Account
from broker.identity.tables import WorkloadRow


class WorksForOthers(Forbidden):
    """The job holds grants for customers beyond the account's limits as well."""

    code = "job_works_for_others"

    def __init__(self) -> None:
        super().__init__(
            "This job also works for organizations beyond your account's. For yours, revoke the grant instead "
            "(`broker grant list`, `broker grant revoke`), or ask somebody whose account has no limits."
        )


def within(by: Account, now: Millis) -> Filter | None:
    """The filter of the jobs within the limits of ``by``; None if it has none.

    It is for a session over every tenant.
    """
    if by.organizations is None:
        return None
    inside = GrantRow.organization_id.in_(sorted(by.organizations))
    held = exists().where(GrantRow.workload_id == WorkloadRow.id, looked_at(*_standing(now)))
    return Filter(and_(or_(WorkloadRow.created_by == by.id, held.where(inside)), ~held.where(~inside)))


async def find(session: AsyncSession, by: Account, reference: Reference, *, now: Millis) -> WorkloadRow:
    """The job of that id or name, in a session over every tenant.

    Raises:
        NoSuchWorkload: there is none, or it has nothing to do with the account's customers. WorksForOthers: not alone.
    """
    row = await workloads.find(session, reference)
    await _refuse_beyond(session, by, row, now)
    return row


async def known(session: AsyncSession, by: Account, reference: Reference) -> WorkloadRow:
    """The job of that id or name, to name in a grant.

    It is for a session of the account's own scope.  It also finds a job that works for others: one that holds, or held,
    a grant for one of the account's customers.

    Raises:
        NoSuchWorkload: there is none, or the account never made it nor had it work for its customers.
    """
    row = await workloads.find(session, reference)
    if by.organizations is not None and row.created_by != by.id:
        held = await session.scalars(select(GrantRow).where(GrantRow.workload_id == row.id))
        if not any(grant.genuine for grant in held):
            raise workloads.NoSuchWorkload
    return row


async def end(
    session: AsyncSession, by: Account, actor: Actor, reference: Reference, *, reason: str, now: Millis
) -> WorkloadRow:
    """End a job (:func:`broker.identity.workloads.revoke`), in a session over every tenant.

    Raises as :func:`find`.
    """
    row = await workloads.revoke(session, actor, reference, reason=reason, now=now)
    # Only now: giving a grant raises the job's epoch, too. So one that was under way is committed by here, and seen.
    await _refuse_beyond(session, by, row, now)
    return row


class SeesKeys(Conflict):
    """The job may see keys, as a second person approved.

    Whoever gives it a key pair, or a trust, could see them.
    """

    code = "job_sees_keys"

    def __init__(self) -> None:
        super().__init__(
            "This job holds a grant to see keys, which whoever made the new key pair or the trust could use. Let the "
            "job itself replace its key (`broker workload rotate-key --identity FILE`), or end that grant first."
        )


async def rotate_key(
    session: AsyncSession,
    by: Account,
    actor: Actor,
    reference: Reference,
    jwk: dict[str, Any],
    *,
    overlap_s: int,
    now: Millis,
) -> WorkloadRow:
    """Register another key of a job for an operator (:func:`broker.identity.workloads.add_key`).

    The session is over every tenant.

    Raises:
        SeesKeys: it holds a grant to see keys. And as :func:`find` and ``add_key``.
    """
    row = await find(session, by, reference, now=now)
    await session.refresh(row, with_for_update=True)
    await workloads.add_key(session, actor, row, jwk, overlap_s=overlap_s, now=now)
    await insist_that_nobody_gains_sight(session, by, row, now=now)
    return row


async def insist_that_nobody_gains_sight(session: AsyncSession, by: Account, row: WorkloadRow, *, now: Millis) -> None:
    """Refuse a further way for a job to prove itself if whoever made that could see keys by it.

    It is called in the transaction that makes it, and afterwards.

    Raises:
        SeesKeys: the job holds a grant to see keys. And as :func:`find`.
    """
    # A grant raises its job's epoch: one that is given meanwhile is committed before this, and seen, or after it.
    await raise_epoch(session, row.id)
    await _refuse_beyond(session, by, row, now)
    held = await session.scalars(select(GrantRow).where(GrantRow.workload_id == row.id, *_standing(now)))
    if any(grant.needs_approval and grant.approved_by is not None for grant in held):
        raise SeesKeys


async def _refuse_beyond(session: AsyncSession, by: Account, row: WorkloadRow, now: Millis) -> None:
    if by.organizations is None:
        return
    held = await session.scalars(select(GrantRow).where(GrantRow.workload_id == row.id, *_standing(now)))
    organizations = frozenset(grant.organization_id for grant in held if grant.genuine)
    if row.created_by != by.id and organizations.isdisjoint(by.organizations):
        raise workloads.NoSuchWorkload
    if not organizations <= by.organizations:
        raise WorksForOthers


def _standing(now: Millis) -> tuple[ColumnElement[bool], ...]:
    return GrantRow.state == Validity.ACTIVE, or_(GrantRow.expires_at.is_(None), GrantRow.expires_at > now)
