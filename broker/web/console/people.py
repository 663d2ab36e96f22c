"""The names that stand beside ids of accounts and jobs.

They are looked up once for all that a page shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from broker.erasure.accounts import pseudonym
from broker.formats.ids import OperatorId, WorkloadId, is_id
from broker.identity import accounts
from broker.web.api.names import Names, job_names
from broker.web.callers import Call

ERASED: Final = "an erased person"


async def named(call: Call, ids: Iterable[str | None]) -> Names:
    """The names of those of these who are accounts or jobs.

    An account beyond the limits of who asks has none, nor has one that something else than the broker wrote.
    """
    wanted = [each for each in dict.fromkeys(ids) if each]
    people = [each for each in wanted if is_id(each, OperatorId)]
    jobs = [each for each in wanted if is_id(each, WorkloadId)]
    async with call.services.parts.db.read(call.scope) as session:
        names = await job_names(session, jobs)
        for row in await accounts.of(session, call.scope, people):
            names[row.id] = ERASED if row.name == pseudonym(row.id) else row.name
    return names


def actors_of(cores: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of those who did events, from the cores of these."""
    return [core["actor"].get("id", "") for core in cores]
