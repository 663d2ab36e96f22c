"""The names that stand beside ids of accounts and jobs, and slugs for those of customers.

They are looked up once for all that a page shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from broker.erasure.accounts import pseudonym
from broker.formats.ids import OperatorId, OrganizationId, WorkloadId, is_id
from broker.identity import accounts
from broker.web.api.names import Names, job_names, slugs
from broker.web.callers import Call

ERASED: Final = "an erased person"


async def named(call: Call, ids: Iterable[str | None]) -> Names:
    """The names of those of these who are accounts or jobs, and the slugs of customers.

    An account beyond the limits of who asks has none, nor has one that something else than the broker wrote.
    """
    wanted = [each for each in dict.fromkeys(ids) if each]
    people = [each for each in wanted if is_id(each, OperatorId)]
    jobs = [each for each in wanted if is_id(each, WorkloadId)]
    customers = [each for each in wanted if is_id(each, OrganizationId)]
    async with call.services.parts.db.read(call.scope) as session:
        names = Names({**await job_names(session, jobs), **await slugs(session, customers)})
        for row in await accounts.of(session, call.scope, people):
            names[row.id] = ERASED if row.name == pseudonym(row.id) else row.name
    return names


def ids_in(cores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who did the events with these cores, and the customers and jobs of these, by id."""
    return [
        each
        for core in cores
        for each in (core["actor"].get("id", ""), core.get("organization", ""), core.get("workload", ""))
    ]
