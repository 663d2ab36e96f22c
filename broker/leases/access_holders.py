"""Who still holds a version of a key, and who used it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.formats.ids import CredentialId, WorkloadId
from broker.grants.policy import Mode
from broker.identity.tables import WorkloadRow
from broker.leases.tables import LeaseRow, UseRow
from broker.leases.use_days import days_of

# Open, of them reveals, the last one's end, all reveals, and when the last one was.
_Leases = tuple[int, int, Millis | None, int, Millis | None]
# Under way, ever, and when last.
_Uses = tuple[int, int, Millis | None]


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
    open_ones = stands(now)
    reveals = LeaseRow.mode == Mode.REVEAL
    leased = await session.execute(
        select(
            LeaseRow.workload_id,
            func.sum(case((open_ones, 1), else_=0)),
            func.sum(case((open_ones & reveals, 1), else_=0)),
            func.max(case((open_ones, LeaseRow.expires_at), else_=None)),
            func.sum(case((reveals, 1), else_=0)),
            func.max(case((reveals, LeaseRow.issued_at), else_=None)),
        )
        .where(LeaseRow.credential_id == credential_id, LeaseRow.version == number)
        .group_by(LeaseRow.workload_id)
    )
    under_way = await session.execute(
        select(UseRow.workload_id, func.count())
        .where(UseRow.credential_id == credential_id, UseRow.version == number)
        .group_by(UseRow.workload_id)
    )
    uses: dict[WorkloadId, _Uses] = {row[0]: (row[1], 0, None) for row in under_way}
    for day in await days_of(session, credential_id, Millis(0)):
        if day.version == number:
            open_uses, often, last = uses.get(day.workload, _NO_USE)
            uses[day.workload] = (open_uses, often + day.uses, max(last or day.last, day.last))
    leases: dict[WorkloadId, _Leases] = {row[0]: (row[1], row[2], row[3], row[4], row[5]) for row in leased}
    workloads = {*leases, *uses}
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_(workloads)))
    names = {row[0]: row[1] for row in named}
    found = [
        AccessHolder(workload, names.get(workload, ""), *leases.get(workload, _NO_LEASE), *uses.get(workload, _NO_USE))
        for workload in workloads
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


_NO_LEASE: Final[_Leases] = (0, 0, None, 0, None)
_NO_USE: Final[_Uses] = (0, 0, None)


def stands(now: Millis) -> ColumnElement[bool]:
    """Whether a lease is neither ended nor expired at ``now`` (milliseconds)."""
    return LeaseRow.ended_at.is_(None) & (LeaseRow.expires_at > now)
