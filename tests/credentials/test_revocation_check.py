"""A revoked key counts as dead only once upstream refuses it; until then somebody is asked, ever again."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.notifications.tables import NoticeRow
from broker.notifications.words import WORDS, filled
from broker.sandbox.state import Faults
from tests.support.world import World


@pytest.fixture
async def acme(world: World) -> str:
    """A customer whose key was just cut off here; the credential's id."""
    intake, secret = await _organization(world)
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"
    (credential,) = (await world.call("GET", "/v1/credentials"))["items"]
    await world.call("POST", f"/v1/credentials/{credential['id']}/versions/1/revoke", json={})
    return str(credential["id"])


async def _organization(world: World) -> tuple[str, str]:
    await world.organization("acme")
    return await world.request_key("acme")


async def told(world: World, kind: str) -> int:
    items = (await world.call("GET", "/v1/notices", params={"limit": 500}))["items"]
    return sum(item["kind"] == kind for item in items)


async def test_it_awaits_its_revocation_until_upstream_refuses_it_and_a_month_later_it_is_destroyed(
    world: World, acme: str
) -> None:
    # given a key that upstream still takes
    await world.work()
    (version,) = await world.versions(acme)
    assert (version["state"], version["status"]) == ("revoked", "awaiting upstream revocation")
    assert await told(world, "revocation_wanted") == 1

    # when days pass, it ages visibly
    await world.work(hours=72)
    (version,) = await world.versions(acme)
    assert version["awaiting_days"] == 3
    (listed,) = (await world.call("GET", "/v1/credentials", params={"only": "awaiting_revocation"}))["items"]
    assert listed["id"] == acme

    # when the customer revokes it upstream
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=25)

    # then that is confirmed
    (version,) = await world.versions(acme)
    assert version["status"] == f"revoked (confirmed upstream at {version['revocation_confirmed_at']})"
    assert await told(world, "revocation_confirmed") == 1
    assert (await world.call("GET", "/v1/credentials", params={"only": "awaiting_revocation"}))["items"] == []

    # and after a month, in which it stayed dead, nothing is left of the key
    for _ in range(31):
        await world.work(hours=24)
    assert (await world.versions(acme))[0]["destroyed_at"] is not None
    world.upstream.requests.clear()
    await world.work(hours=200)
    assert list(world.upstream.requests) == [], "nobody asks any more"


async def test_every_probe_is_on_the_record_as_the_brokers_own_use(world: World, acme: str) -> None:
    world.upstream.requests.clear()
    for _ in range(5):
        await world.work(hours=24)
    asked = await world.events(kind="credential.probe.authorized", actor="broker")
    after = [event for event in asked if event["core"]["version"] == 1][1:]  # the first verified it
    assert len(after) == len(world.upstream.requests) == 5


async def test_the_customer_is_asked_reminded_and_operators_are_called(world: World, acme: str) -> None:
    for _ in range(40):
        await world.work(hours=24)
    assert await told(world, "revocation_wanted") == 1
    assert await told(world, "revocation_reminder") == 4  # after 3, 7, 14 and 30 days
    assert await told(world, "revocation_overdue") == 2  # after 14 and 30


async def test_probes_come_ever_less_often(world: World, acme: str) -> None:
    world.upstream.requests.clear()
    for _ in range(60):
        await world.work(seconds=60)
    assert 3 <= len(world.upstream.requests) <= 5
    world.upstream.requests.clear()
    for _ in range(48):
        await world.work(hours=1)
    assert 3 <= len(world.upstream.requests) <= 7


async def test_an_outage_of_a_day_neither_confirms_nor_bothers_anybody(world: World, acme: str) -> None:
    world.upstream.faults = Faults(outage=True)
    for _ in range(24):
        await world.work(hours=1)
    (version,) = await world.versions(acme)
    assert version["status"] == "awaiting upstream revocation"
    assert await told(world, "revocation_wanted") == await told(world, "revocation_unchecked") == 0
    world.upstream.faults = Faults()
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=24)
    (version,) = await world.versions(acme)
    assert version["revocation_confirmed_at"] is not None


@pytest.mark.parametrize("fault", [Faults(outage=True), Faults(outage=True, status=403)], ids=["down", "403"])
async def test_an_upstream_that_says_nothing_for_long_is_no_reason_to_ask_nobody(
    world: World, acme: str, fault: Faults
) -> None:
    world.upstream.faults = fault
    for _ in range(40):
        await world.work(hours=24)
    assert await told(world, "revocation_wanted") == await told(world, "revocation_reminder") == 0
    assert await told(world, "revocation_unchecked") == 5  # after a day, and 3, 7, 14 and 30
    assert await told(world, "revocation_overdue") == 2


async def test_the_customer_reads_where_to_revoke_the_key(world: World, acme: str) -> None:
    await world.work()
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        notice = (await session.scalars(select(NoticeRow).where(NoticeRow.kind == "revocation_wanted"))).one()
    words = filled(WORDS["revocation_wanted"].customer, notice.facts)
    for step in world.services.parts.catalog.get("raptor-comply").admin.revoke:
        assert step in words


async def test_a_key_that_was_never_confirmed_can_be_destroyed_and_says_so(world: World, acme: str) -> None:
    await world.work()
    version = await world.call("POST", f"/v1/credentials/{acme}/versions/1/destroy")
    assert (version["state"], version["status"], version["revocation_confirmed_at"]) == ("destroyed", "destroyed", None)
    world.upstream.requests.clear()
    await world.work(hours=48)
    assert list(world.upstream.requests) == []


async def test_two_workers_at_once_confirm_once(world: World, acme: str) -> None:
    import asyncio

    world.revoke_upstream(world.upstream_keys["acme"])
    await asyncio.gather(world.broker.worker.once(), world.broker.worker.once())
    assert len(await world.events(kind="credential.version.revocation_confirmed")) == 1
    assert await told(world, "revocation_confirmed") == 1
