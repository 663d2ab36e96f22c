"""Uses by day are what is on the record, whether it was counted yet or not."""

from __future__ import annotations

from sqlalchemy import select, update

from broker.audit.tables import CursorRow
from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT
from broker.credentials.tables import CredentialRow
from broker.formats.ids import CredentialId
from broker.leases import use_days
from broker.leases.tables import UseDayRow, UseRow
from broker.leases.use_days import UseDay, days_of
from tests.support.world import Job, World


async def days(world: World, credential: str) -> list[UseDay]:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return sorted(await days_of(session, CredentialId(credential), Millis(0)))


async def counted(world: World) -> int:
    """How many days there are after it was counted."""
    await use_days.duty(world.services.parts.db).do(1)
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return len((await session.scalars(select(UseDayRow.day))).all())


async def used(world: World, job: Job, times: int) -> None:
    lease = await job.lease("acme")
    for _ in range(times):
        assert (await world.proxied(lease, "/facilities")).status_code == 200
    await world.events(kind="use.completed")


async def test_they_are_the_same_before_they_are_counted_while_they_are_and_after(world: World) -> None:
    # given a key that one job used on two days, and another job was shown
    credential = await world.key_for("acme")
    job, other = await world.job(), await world.job("other")
    await world.grant(job, "acme")
    await world.grant(other, "acme", modes=("reveal",))
    await used(world, job, 2)
    before = await days(world, credential)
    assert await counted(world) == 1
    assert await days(world, credential) == before
    world.clock.forward(hours=24)
    await used(world, job, 3)
    await other.lease("acme", mode="reveal")
    # when it is counted, also twice, then nothing of what is told changes
    half = await days(world, credential)
    assert await counted(world) == await counted(world) == 3
    after = await days(world, credential)
    assert half == after
    of_job, of_other = ([day for day in after if day.workload == one.id] for one in (job, other))
    assert [(day.did.uses, day.did.reveals) for day in of_job] == [(2, 0), (3, 0)]
    assert of_job[1].day - of_job[0].day == 1
    assert all(day.did.last_use // DAY_MS == day.day and day.did.last_lease <= day.did.last_use for day in of_job)
    assert [(day.did.uses, day.did.reveals, day.did.last_use) for day in of_other] == [(0, 1, 0)]
    assert of_other[0].did.last_reveal == of_other[0].did.last_lease > 0


async def test_a_call_that_ended_leaves_no_row_of_its_own(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    await used(world, job, 2)
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert (await session.scalars(select(UseRow.id))).all() == []


async def test_a_key_knows_when_it_was_first_leased(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")

    async def used_at() -> int | None:
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            return await session.scalar(select(CredentialRow.used_at).where(CredentialRow.id == credential))

    await counted(world)
    assert await used_at() is None
    await used(world, job, 1)
    await counted(world)
    first = await used_at()
    assert first is not None
    world.clock.forward(hours=24)
    await used(world, job, 1)
    await counted(world)
    assert await used_at() == first


async def test_a_count_that_was_lost_is_made_again_from_the_record(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    await used(world, job, 2)
    await counted(world)
    right = await days(world, credential)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(UseDayRow.__table__.delete())  # type: ignore[attr-defined]  # declared as FromClause
        await session.execute(update(CursorRow).values(next=0))
    await counted(world)
    assert await days(world, credential) == right
