"""Who still holds a version of a key, and who used it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.formats.ids import CredentialId, WorkloadId
from broker.grants.policy import Mode
from broker.identity.tables import WorkloadRow
from broker.leases.tables import LeaseRow, UseRow
from broker.leases.use_days import Did, by_workload, days_of


@dataclass(frozen=True, slots=True)
class AccessHolder:
    """One workload and one version.

    ``holds_until`` is when the last of its open leases ends (milliseconds).  ``open_reveals`` are leases that showed
    the key and still run.  ``reveals`` is how often the workload was ever shown the key, and ``last_revealed`` when it
    last was: a copy outlives its lease.
    """

    workload: WorkloadId
    name: str
    open_leases: int
    open_reveals: int
    holds_until: Millis | None
    reveals: int
    last_revealed: Millis | None
    open_uses: int
    uses: int
    last_use: Millis | None


async def in_use_by(
    session: AsyncSession, credential_id: CredentialId, number: int, *, now: Millis
) -> Sequence[AccessHolder]:
    """Every workload that ever leased or used this version, those that still hold it first."""
    leased = await session.execute(
        select(
            LeaseRow.workload_id,
            func.count(),
            func.sum(case((LeaseRow.mode == Mode.REVEAL, 1), else_=0)),
            func.max(LeaseRow.expires_at),
        )
        .where(LeaseRow.credential_id == credential_id, LeaseRow.version == number, stands(now))
        .group_by(LeaseRow.workload_id)
    )
    called = await session.execute(
        select(UseRow.workload_id, func.count())
        .where(UseRow.credential_id == credential_id, UseRow.version == number)
        .group_by(UseRow.workload_id)
    )
    leases: dict[WorkloadId, tuple[int, int, Millis | None]] = {row[0]: (row[1], row[2], row[3]) for row in leased}
    under_way: dict[WorkloadId, int] = {row[0]: row[1] for row in called}
    days = await days_of(session, credential_id, Millis(0))
    ever = by_workload(day for day in days if day.version == number)
    workloads = {*leases, *under_way, *ever}
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_(workloads)))
    names = {row[0]: row[1] for row in named}
    found = [
        AccessHolder(
            workload,
            names.get(workload, ""),
            *leases.get(workload, (0, 0, None)),
            did.reveals,
            Millis(did.last_reveal) or None,
            under_way.get(workload, 0),
            did.uses,
            Millis(did.last_use) or None,
        )
        for workload in workloads
        for did in (ever.get(workload, Did()),)
    ]
    return sorted(
        found,
        key=lambda one: (
            -one.open_reveals,
            -one.open_uses,
            -max(one.last_use or 0, one.last_revealed or 0),
            one.workload,
        ),
    )


def stands(now: Millis) -> ColumnElement[bool]:
    """Whether a lease is neither ended nor expired at ``now`` (milliseconds)."""
    return LeaseRow.ended_at.is_(None) & (LeaseRow.expires_at > now)
