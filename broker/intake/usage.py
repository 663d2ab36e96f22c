"""Who used a customer's keys, how often and when: what the customer sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.formats.ids import CredentialId
from broker.grants.policy import Mode
from broker.identity.tables import WorkloadRow
from broker.leases.tables import LeaseRow
from broker.leases.use_days import days_of


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
    counted = await days_of(session, credential_id, since)
    reveals: ColumnElement[int] = func.sum(case((LeaseRow.mode == Mode.REVEAL, 1), else_=0))
    leased = await session.execute(
        select(LeaseRow.workload_id, reveals, func.max(LeaseRow.issued_at))
        .where(LeaseRow.credential_id == credential_id, LeaseRow.issued_at >= since)
        .group_by(LeaseRow.workload_id)
    )
    calls: dict[str, tuple[int, int]] = {}
    days: Counter[int] = Counter()
    for each in counted:
        often, last = calls.get(each.workload, (0, 0))
        calls[each.workload] = (often + each.uses, max(last, each.last))
        days[each.day] += each.uses
    leases = {row[0]: (row[1], row[2]) for row in leased}
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_({*calls, *leases})))
    never = (0, 0)
    jobs = []
    for workload, name in named:
        (called_often, called_last), (shown, leased_last) = calls.get(workload, never), leases.get(workload, never)
        jobs.append(Used(name, called_often, shown, max(called_last, leased_last)))
    return Usage(sorted(jobs, key=lambda one: (-one.last, one.name)), days)
