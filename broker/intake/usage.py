"""Who used a customer's keys, how often and when: what the customer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Millis
from broker.formats.ids import CredentialId
from broker.grants.policy import Mode
from broker.identity.tables import WorkloadRow
from broker.leases.tables import LeaseRow, UseRow


@dataclass(frozen=True, slots=True)
class Used:
    """One job: how often it called and was shown the key, and when last."""

    name: str
    calls: int
    shown: int
    last: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What jobs did since a time, and the calls of each day (UTC, days since the epoch)."""

    jobs: Sequence[Used]
    days: Mapping[int, int]


async def usage(session: AsyncSession, credential_id: CredentialId, since: Millis) -> Usage:
    """The use of every version of a credential since then (milliseconds)."""
    calls_of = (UseRow.credential_id == credential_id, UseRow.authorized_at >= since)
    called = await session.execute(
        select(UseRow.workload_id, func.count(), func.max(UseRow.authorized_at))
        .where(*calls_of)
        .group_by(UseRow.workload_id)
    )
    reveals: ColumnElement[int] = func.sum(case((LeaseRow.mode == Mode.REVEAL, 1), else_=0))
    leased = await session.execute(
        select(LeaseRow.workload_id, reveals, func.max(LeaseRow.issued_at))
        .where(LeaseRow.credential_id == credential_id, LeaseRow.issued_at >= since)
        .group_by(LeaseRow.workload_id)
    )
    calls = {row[0]: (row[1], row[2]) for row in called}
    leases = {row[0]: (row[1], row[2]) for row in leased}
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_({*calls, *leases})))
    never = (0, 0)
    jobs = []
    for workload, name in named:
        (called_often, called_last), (shown, leased_last) = calls.get(workload, never), leases.get(workload, never)
        jobs.append(Used(name, called_often, shown, max(called_last, leased_last)))
    day = UseRow.authorized_at // DAY_MS
    counted = await session.execute(select(day, func.count()).where(*calls_of).group_by(day))
    return Usage(sorted(jobs, key=lambda one: (-one.last, one.name)), {int(row[0]): row[1] for row in counted})
