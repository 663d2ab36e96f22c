"""Who used a customer's keys, how often and when: what the customer sees."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.formats.ids import CredentialId, WorkloadId
from broker.identity.tables import WorkloadRow
from broker.leases.use_days import UseDay, days_of


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
    of_job: defaultdict[WorkloadId, list[UseDay]] = defaultdict(list)
    days: Counter[int] = Counter()
    for each in counted:
        of_job[each.workload].append(each)
        if each.uses:
            days[each.day] += each.uses
    named = await session.execute(select(WorkloadRow.id, WorkloadRow.name).where(WorkloadRow.id.in_(of_job)))
    jobs = [
        Used(
            name,
            sum(day.uses for day in of_job[workload]),
            sum(day.reveals for day in of_job[workload]),
            max(max(day.last_use, day.last_lease) for day in of_job[workload]),
        )
        for workload, name in named
    ]
    return Usage(sorted(jobs, key=lambda one: (-one.last, one.name)), days)
