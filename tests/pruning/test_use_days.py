"""What jobs did long ago is forgotten, but not that they were shown a key that may be used still."""

from __future__ import annotations

from sqlalchemy import select

from broker.base.clock import DAY_MS
from broker.base.db import EVERY_TENANT
from broker.formats import ids
from broker.formats.ids import CredentialId, WorkloadId
from broker.leases.tables import OrganizationDayRow, UseDayRow
from tests.pruning.conftest import Rows, ago


def day(kept: Rows, credential: CredentialId, days: float, *, version: int = 1, reveals: int = 0) -> UseDayRow:
    return UseDayRow(
        credential_id=credential,
        version=version,
        workload_id=ids.new(WorkloadId),
        day=ago(days) // DAY_MS,
        organization_id=kept.organization,
        uses=1,
        reveals=reveals,
        last_use=ago(days),
        last_reveal=ago(days) if reveals else 0,
        last_lease=ago(days),
    )


async def days_left(kept: Rows) -> list[int]:
    async with kept.db.read(EVERY_TENANT) as session:
        return list(await session.scalars(select(UseDayRow.day).order_by(UseDayRow.day)))


async def test_days_long_ago_go_but_those_on_which_a_living_key_was_shown(kept: Rows) -> None:
    credential = await kept.credential()
    await kept.version(credential, 1)
    await kept.version(credential, 2, destroyed_at=ago(1))
    for old in (
        day(kept, credential, 399),
        day(kept, credential, 402),
        day(kept, credential, 500, reveals=1),
        day(kept, credential, 501, version=2, reveals=1),
    ):
        await kept.add(old)
    await kept.prune("use_days")
    assert await days_left(kept) == [ago(500) // DAY_MS, ago(399) // DAY_MS]
    await kept.prune("use_days")
    assert len(await days_left(kept)) == 2


async def test_how_often_a_customers_keys_were_used_is_forgotten_as_late(kept: Rows) -> None:
    for days in (399, 402, 500):
        await kept.add(
            OrganizationDayRow(organization_id=kept.organization, day=ago(days) // DAY_MS, uses=1, refusals=2)
        )
    await kept.prune("organization_days")
    async with kept.db.read(EVERY_TENANT) as session:
        assert list(await session.scalars(select(OrganizationDayRow.day))) == [ago(399) // DAY_MS]
