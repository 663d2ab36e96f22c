"""Who used a customer's keys, how often and when: what the customer sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.formats.ids import CredentialId, WorkloadId
from broker.identity.tables import WorkloadRow
from broker.leases.use_days import by_workload, days_of


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
    of_job = by_workload(counted)
    days: Counter[int] = Counter()
    for each in counted:
        if each.did.uses:
            days[each.day] += each.did.uses
    jobs = [
        Used(name, did.uses, did.reveals, max(did.last_use, did.last_lease))
        for workload, name in (await names_of_jobs(session, of_job)).items()
        for did in (of_job[workload],)
    ]
    return Usage(sorted(jobs, key=lambda one: (-one.last, one.name)), days)


async def names_of_jobs(session: AsyncSession, jobs: Collection[WorkloadId]) -> Mapping[WorkloadId, str]:
    """What these jobs are called."""
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_(jobs)))
    return {row.id: row.name for row in named}
