"""Who still holds a version of a key, who used it, and when it can therefore retire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.credentials import rotation
from broker.credentials.tables import RotationRow
from broker.grants.policy import Mode
from broker.identity.tables import WorkloadRow
from broker.leases.tables import LeaseRow, UseRow


@dataclass(frozen=True, slots=True)
class Holder:
    """One workload and one version.  ``open_reveals`` are leases that showed the key and still run.

    ``holds_until`` is when the last of its open leases ends (milliseconds).
    """

    workload: str
    name: str
    open_leases: int
    open_reveals: int
    holds_until: int | None
    open_uses: int
    uses: int
    last_use: int | None


async def holders(session: AsyncSession, credential_id: str, number: int, *, now: int) -> Sequence[Holder]:
    """Every workload that ever leased or used this version, those that still hold it first."""
    stands = LeaseRow.ended_at.is_(None) & (LeaseRow.expires_at > now)
    reveals = stands & (LeaseRow.mode == Mode.REVEAL)
    leased = await session.execute(
        select(
            LeaseRow.workload_id,
            func.sum(case((stands, 1), else_=0)),
            func.sum(case((reveals, 1), else_=0)),
            func.max(case((stands, LeaseRow.expires_at), else_=None)),
        )
        .where(LeaseRow.credential_id == credential_id, LeaseRow.version == number)
        .group_by(LeaseRow.workload_id)
    )
    used = await session.execute(
        select(
            UseRow.workload_id,
            func.sum(case((UseRow.completed_at.is_(None), 1), else_=0)),
            func.count(),
            func.max(UseRow.authorized_at),
        )
        .where(UseRow.credential_id == credential_id, UseRow.version == number)
        .group_by(UseRow.workload_id)
    )
    leases = {row[0]: row for row in leased}
    uses = {row[0]: row for row in used}
    workloads = {*leases, *uses}
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_(workloads)))
    names = {row[0]: row[1] for row in named}
    found = []
    for workload in workloads:
        _, open_leases, open_reveals, until = leases.get(workload, (workload, 0, 0, None))
        _, open_uses, count, last = uses.get(workload, (workload, 0, 0, None))
        found.append(
            Holder(workload, names.get(workload, ""), open_leases, open_reveals, until, open_uses, count, last)
        )
    return sorted(found, key=lambda one: (-one.open_reveals, -one.open_uses, -(one.last_use or 0), one.workload))


async def retire_due(db: Database, clock: Clock, limit: int = 50) -> None:
    """End grace windows: of keys that nobody holds any more, and of those whose deadline has come.

    A rotation whose new key upstream refuses is left to an operator.
    """
    async with db.read(EVERY_TENANT) as session:
        query = select(RotationRow).where(RotationRow.state == "grace", RotationRow.grace_until <= clock())
        found = list(await session.scalars(query.order_by(RotationRow.grace_until).limit(limit)))
    for known in found:
        async with db.write(Scope.of(known.organization_id)) as session:
            row = await rotation.find(session, known.id)
            now = clock()
            if row.state != "grace" or row.retire_by is None or row.from_version is None:
                continue
            if now >= row.retire_by:
                await rotation.retire(session, BROKER, row, "deadline", now=now)
            elif not await _is_held(session, row.credential_id, row.from_version, now):
                await rotation.retire(session, BROKER, row, "not_held", now=now)


async def _is_held(session: AsyncSession, credential_id: str, number: int, now: int) -> bool:
    """Whether a job may still have this version's key, or a call with it is under way."""
    found = await holders(session, credential_id, number, now=now)
    return any(holder.open_reveals or holder.open_uses for holder in found)
