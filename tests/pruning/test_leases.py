"""Leases, their guards and numbers of quotas."""

from __future__ import annotations

from broker.audit.tables import GuardRow, QuotaRow
from broker.base.db import EVERY_TENANT
from broker.formats import ids
from broker.formats.ids import GrantId, LeaseId, OrganizationId
from broker.leases.tables import LeaseRow
from tests.pruning.conftest import NOW, Rows, ago
from tests.support.world import World


async def test_a_lease_goes_once_its_last_moment_is_long_past(kept: Rows) -> None:
    credential = await kept.credential()
    await kept.version(credential)
    over = await kept.lease(credential, ago(401))
    lately = await kept.lease(credential, ago(399))
    await with_guard(kept, over)
    await kept.prune("leases")
    assert await kept.left(LeaseRow.id) == {lately}
    assert await kept.left(GuardRow.id) == set()
    await kept.prune("leases")
    assert await kept.left(LeaseRow.id) == {lately}


async def test_a_lease_that_showed_a_key_stays_until_the_key_was_destroyed_as_long_ago(kept: Rows) -> None:
    used, destroyed, lately = [await kept.credential() for _ in range(3)]
    await kept.version(used)
    await kept.version(destroyed, state="revoked", destroyed_at=ago(401))
    await kept.version(lately, state="revoked", destroyed_at=ago(10))
    leases = {each: await kept.lease(each, ago(500), mode="reveal") for each in (used, destroyed, lately)}
    await kept.prune("leases")
    assert await kept.left(LeaseRow.id) == {leases[used], leases[lately]}


async def test_leases_of_a_key_that_was_exposed_stay_while_somebody_may_ask_for_the_timeline(kept: Rows) -> None:
    going_on, closed_lately, closed = [await kept.credential() for _ in range(3)]
    await kept.version(going_on)
    for each in (closed_lately, closed):
        await kept.version(each, state="destroyed", destroyed_at=ago(600))
    leases = {each: await kept.lease(each, ago(500)) for each in (going_on, closed_lately, closed)}
    await kept.exposure(going_on, ago(500))
    await kept.exposure(closed_lately, ago(20))
    await kept.exposure(closed, ago(500))
    await kept.prune("leases")
    assert await kept.left(LeaseRow.id) == {leases[going_on], leases[closed_lately]}


async def test_the_guard_of_a_lease_stays_until_time_alone_refuses_it(kept: Rows) -> None:
    credential = await kept.credential()
    over, lately, standing = [await kept.lease(credential, ago(days)) for days in (1.1, 0.9, -0.1)]
    pruned = ids.new(LeaseId)  # its row went before
    other = ids.new(OrganizationId)
    for relied in (over, lately, standing, pruned, other):
        await with_guard(kept, relied)
    await kept.prune("guards")
    assert await kept.left(GuardRow.id) == {lately, standing, other}
    assert await kept.left(LeaseRow.id) == {over, lately, standing}


async def with_guard(kept: Rows, relied: str) -> None:
    await kept.add(GuardRow(id=relied, epoch=7))


async def test_a_lease_in_memory_that_was_cut_off_gives_nothing_when_its_guard_has_gone(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    named = lease["lease"]["id"]
    remembered = world.services.leasing.remembered.get(named)
    assert remembered is not None
    await world.call("POST", f"/v1/leases/{named}/revoke", json={"reason": "over"})
    for hours in (0, 30, 24 * 500):
        await world.work(hours=hours)
        world.services.leasing.remembered[named] = remembered
        refused = await world.proxied(lease, "/facilities")
        assert refused.status_code in {401, 403, 409}, refused.text
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert await session.get(GuardRow, named) is None
        assert await session.get(LeaseRow, named) is None


async def test_numbers_of_quotas_go_when_they_decide_nothing_more(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    grant = await world.grant(job, "acme", max_uses=5, rate={"uses": 10, "seconds": 60})
    assert (await world.proxied(await job.lease("acme"), "/facilities")).status_code == 200
    kept = Rows(world.services.parts.db)
    named = {f"{grant}/uses", f"{grant}/rate"}
    assert named <= await kept.left(QuotaRow.id)
    # a rate forgets by itself; what a grant has left doesn't
    await world.work(hours=48)
    assert named & await kept.left(QuotaRow.id) == {f"{grant}/uses"}
    await world.call("POST", f"/v1/grants/{grant}/revoke", json={"reason": "over"})
    await world.work(hours=12)
    assert f"{grant}/uses" in await kept.left(QuotaRow.id)
    await world.work(hours=36)
    assert f"{grant}/uses" not in await kept.left(QuotaRow.id)


async def test_a_wait_that_an_upstream_asked_for_is_kept_while_it_lasts(kept: Rows) -> None:
    for name, value in (("crd_1/pause", ago(2)), ("crd_2/pause", NOW + 1), (f"{ids.new(GrantId)}/uses", 3)):
        await kept.add(QuotaRow(id=name, value=value))
    await kept.prune("quotas")
    assert await kept.left(QuotaRow.id) == {"crd_2/pause"}
