"""Uses and refusals by day are those on the record, of all customers and of each."""

from __future__ import annotations

from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT, Scope
from broker.formats.ids import OrganizationId
from broker.leases import days, use_days
from broker.leases.days import Did
from tests.support.world import World


async def of(world: World, scope: Scope) -> list[Did]:
    async with world.services.parts.db.read(scope) as session:
        found = await days.of(session, Millis(0))
    return [found[day] for day in sorted(found)]


async def test_they_are_counted_once_and_fenced(world: World) -> None:
    # given two customers, one day of uses and refusals of one of them, and one of the other
    await world.key_for("acme")
    await world.key_for("globex")
    job = await world.job()
    await world.grant(job, "acme", rules=[{"methods": ["GET"], "paths": ["/facilities"]}])
    lease = await job.lease("acme")
    for _ in range(3):
        await world.proxied(lease, "/facilities")
    await world.proxied(lease, "/facilities", "DELETE")
    await world.events(kind="use.completed")
    world.clock.forward(hours=24)
    assert (await job.ask("globex")).status_code == 403
    assert (await job.ask("nobody")).status_code == 403
    # when they are counted, also twice
    for _ in range(2):
        await use_days.duty(world.services.parts.db).do(1)
    # then each counts once, and what nobody's is counts for nobody
    assert await of(world, EVERY_TENANT) == [Did(3, 1), Did(0, 2)]
    acme, globex = [OrganizationId(one["id"]) for one in await world.items("/v1/organizations")]
    assert await of(world, Scope.of(acme)) == [Did(3, 1)]
    assert await of(world, Scope.of(globex)) == [Did(0, 1)]
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert [*(await days.of_organization(session, acme, Millis(0))).values()] == [Did(3, 1)]
    # and a time within a day has all of that day
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        today = Millis(world.clock() // DAY_MS * DAY_MS + 1)
        assert [*(await days.of(session, today)).values()] == [Did(0, 2)]
