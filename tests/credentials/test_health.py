"""Keys in use are checked on a schedule; a bad key, an outage and a healthy key are told apart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, update

from broker.audit.events import BROKER
from broker.base.db import EVERY_TENANT
from broker.care.health import SUSPECT, HealthCheck, spread, suspicion
from broker.credentials import due, pausing
from broker.credentials.tables import VersionRow
from broker.credentials.verification import Verification
from broker.formats.ids import CredentialId
from broker.sandbox.state import Faults
from tests.support.sent import noted
from tests.support.world import World

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
async def acme(world: World) -> CredentialId:
    return await world.key_for("acme")


async def health(world: World, credential: str) -> str:
    return str((await world.versions(credential))[0]["health"])


async def told(world: World) -> list[str]:
    return [item["kind"] for item in (await world.call("GET", "/v1/notices"))["items"]]


async def test_a_key_that_the_customer_revoked_by_themselves_is_noticed_and_everybody_told_once(
    world: World, acme: CredentialId
) -> None:
    job = await world.job()
    await world.grant(job, "acme")
    assert (await job.ask("acme")).status_code == 201
    world.revoke_upstream(world.upstream_keys["acme"])
    for _ in range(5):
        await world.work(hours=30)
    assert await health(world, acme) == "failing"
    refused = await job.ask("acme")
    assert (refused.status_code, refused.json()["code"]) == (403, "key_failing")
    assert "it was revoked there, or has expired" in refused.json()["detail"]
    assert await told(world) == ["key_failing"]
    (listed,) = (await world.call("GET", "/v1/credentials", params={"only": "failing"}))["items"]
    assert listed["id"] == acme


async def test_an_outage_is_not_a_bad_key(world: World, acme: CredentialId) -> None:
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    world.upstream.faults = Faults(outage=True)
    await world.work(hours=2)
    assert await health(world, acme) == "unreachable"
    assert await told(world) == ["key_unreachable"]
    world.upstream.faults = Faults()
    assert (await job.ask("acme")).status_code == 201, "nobody is refused for it"
    assert lease["lease"]["state"] == "active"
    await world.work(hours=2)
    assert await health(world, acme) == "healthy"
    assert await told(world) == ["key_unreachable"], "an outage that ended is no news"


async def test_an_outage_is_one_notice_however_many_keys_meet_it_and_the_next_one_another(world: World) -> None:
    credentials = [await world.key_for(f"customer-{number}") for number in range(6)]
    await world.work(hours=2)
    world.upstream.faults = Faults(outage=True)
    for _ in range(4):  # more keys come in turn, and those that were asked are asked again
        await world.work(hours=15)
    assert {await health(world, credential) for credential in credentials} == {"unreachable"}
    assert await told(world) == ["key_unreachable"]
    assert len(await world.events(kind="credential.version.unreachable")) == 6, "the record has each"
    world.upstream.faults = Faults()
    for _ in range(2):
        await world.work(hours=15)
    assert {await health(world, credential) for credential in credentials} == {"healthy"}
    world.upstream.faults = Faults(outage=True)
    for _ in range(2):
        await world.work(hours=30)
    assert await told(world) == ["key_unreachable"] * 2


async def test_an_upstream_that_answers_now_and_then_is_not_told_of_each_time(world: World, acme: CredentialId) -> None:
    for outage in (True, False) * 3:
        world.upstream.faults = Faults(outage=outage)
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            await session.execute(update(VersionRow).values(next_probe_at=world.clock()))
        await world.work()
    assert len(await world.events(kind="credential.version.unreachable")) == 3
    assert await told(world) == ["key_unreachable"]


async def test_a_key_that_was_revoked_during_an_outage_is_refused_to_jobs_as_soon_as_upstream_says_so(
    world: World, acme: CredentialId
) -> None:
    # given a job that holds a lease and works, while the checks meet an outage
    job = await world.job()
    await world.grant(job, "acme", max_ttl=86_400)
    world.clock.forward(hours=2)
    lease = await job.lease("acme", ttl=86_400)
    world.upstream.faults = Faults(outage=True)
    await world.broker.worker.duties["check_health"].run()
    assert await health(world, acme) == "unreachable"
    world.upstream.faults = Faults()
    assert (await world.proxied(lease, "/facilities")).status_code == 200

    # when upstream answers again, and refuses the key
    world.revoke_upstream(world.upstream_keys["acme"])
    world.clock.forward(seconds=30)
    await world.broker.worker.duties["check_health"].run()
    assert await health(world, acme) == "failing"

    # then no job sends it any more
    world.upstream.requests.clear()
    for refused in (await world.proxied(lease, "/facilities"), await job.ask("acme")):
        assert (refused.status_code, refused.json()["code"]) == (403, "key_failing")
    assert list(world.upstream.requests) == []


async def test_a_bad_key_stays_one_through_an_outage(world: World, acme: CredentialId) -> None:
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=30)
    world.upstream.faults = Faults(outage=True)
    await world.work(hours=30)
    assert await health(world, acme) == "failing"


async def test_keys_are_checked_daily_each_at_a_time_of_its_own(world: World) -> None:
    credentials = [await world.key_for(f"customer-{number}") for number in range(4)]
    await world.work(hours=2)
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        rows = {row.credential_id: row for row in await session.scalars(select(VersionRow))}
    waits = [(rows[one].next_probe_at or 0) - (rows[one].health_at or 0) for one in credentials]
    assert waits == [spread(credential, 24) for credential in credentials]
    assert len(set(waits)) == 4
    assert all(0.8 * DAY_MS <= wait <= 1.2 * DAY_MS for wait in waits)


async def test_one_turn_asks_about_all_keys_that_are_due(world: World) -> None:
    for number in range(8):
        await world.key_for(f"customer-{number}")
    world.clock.forward(hours=2)
    world.upstream.requests.clear()
    await world.broker.worker.duties["check_health"].run()
    assert len(world.upstream.requests) == 8
    await world.broker.worker.duties["check_health"].run()
    assert len(world.upstream.requests) == 8


async def test_keys_that_come_into_use_together_are_first_checked_at_times_spread_over_the_hour(world: World) -> None:
    made = [await world.key_for(f"customer-{number}") for number in range(4)]
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        rows = list(await session.scalars(select(VersionRow).where(VersionRow.credential_id.in_(made))))
    waits = [(row.next_probe_at or 0) - (row.activated_at or 0) for row in rows]
    assert all(HOUR_MS // 4 <= wait <= HOUR_MS for wait in waits)
    assert len(set(waits)) == 4


async def test_a_good_answer_that_changes_nothing_is_written_in_the_records_own_batch(
    world: World, acme: CredentialId
) -> None:
    await world.work(hours=2)  # the ids that the upstream shows are known from here on
    for hours in (30, 30):
        world.clock.forward(hours=hours)
        with noted(world.broker.worker.db, "UPDATE credential_versions") as sent:
            await world.broker.worker.duties["check_health"].run()
        assert sent == []
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            row = await session.get_one(VersionRow, (acme, 1))
        assert row.health_at is not None
        assert world.clock() - row.health_at < HOUR_MS
        assert row.next_probe_at == row.health_at + spread(acme, 24)
    assert len(await world.events(kind="credential.probe.completed")) == 4


@pytest.mark.parametrize("kind", ["scheduled", "late"])
async def test_such_an_answer_changes_nothing_that_was_decided_meanwhile_either(
    world: World, acme: CredentialId, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    await world.work(hours=2)
    world.clock.forward(hours=30)
    settled = Verification.probe

    async def meanwhile(self: Verification, *of: Any) -> Any:
        answer = await settled(self, *of)
        changed = {"health": "failing"} if kind == "scheduled" else {"next_probe_at": 0}
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            await session.execute(update(VersionRow).values(changed))
        return answer

    monkeypatch.setattr(Verification, "probe", meanwhile)
    await world.broker.worker.duties["check_health"].run()
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        row = await session.get_one(VersionRow, (acme, 1))
    assert (row.health, row.next_probe_at) != ("healthy", (row.health_at or 0) + spread(acme, 24))
    assert row.health == "failing" if kind == "scheduled" else row.next_probe_at == 0


async def test_an_answer_that_comes_late_changes_nothing_that_was_decided_meanwhile(
    world: World, acme: CredentialId, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two workers that ask about one key; the first one's answer is on its way for long
    world.clock.forward(hours=2)
    check = HealthCheck(world.services.parts, world.services.verification)
    (row,) = await due.first(world.services.parts.db, check.scheduled(), "raptor-comply", 20)
    asked, go = asyncio.Event(), asyncio.Event()
    settled = Verification.probe

    async def long(self: Verification, *of: Any) -> Any:
        answer = await settled(self, *of)
        asked.set()
        await go.wait()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Verification, "probe", long)
        first = asyncio.create_task(check.probe(row))
        await asked.wait()
    # when the key is revoked, and the second one is told so
    world.revoke_upstream(world.upstream_keys["acme"])
    assert await check.probe(row)
    assert await health(world, acme) == "failing"
    go.set()
    await first
    # then what the first one was told is on the record, and is not what counts
    assert await health(world, acme) == "failing"
    assert len(await world.events(kind="credential.probe.completed")) == 3


async def test_a_key_that_became_suspect_while_it_was_asked_about_is_asked_about_again(
    world: World, acme: CredentialId, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clock.forward(hours=2)
    settled = Verification.probe

    async def meanwhile(self: Verification, *of: Any) -> Any:
        answer = await settled(self, *of)
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            await session.execute(SUSPECT, [suspicion(acme, 1, world.clock())])
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Verification, "probe", meanwhile)
        await world.broker.worker.duties["check_health"].run()
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.broker.worker.duties["check_suspects"].run()
    assert await health(world, acme) == "failing"


async def test_an_upstream_that_asks_to_slow_down_is_left_alone_for_as_long(world: World, acme: CredentialId) -> None:
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme", ttl=3600)
    world.upstream.faults = Faults(rate_limit_per_minute=0)
    await world.work(hours=2)
    asked = len(world.upstream.requests)
    await world.work()
    assert len(world.upstream.requests) == asked, "the pause that the check met holds for the next check"
    assert lease["lease"]["credential"] == acme
    assert (await health(world, acme), await told(world)) == ("healthy", []), "it is no outage"
    for _ in range(3):
        await world.work(hours=2)
    assert (await health(world, acme), await told(world)) == ("unreachable", ["key_unreachable"]), "now it is one"


async def test_a_key_that_is_revoked_after_the_clock_stepped_back_is_noticed_from_what_jobs_are_answered(
    world: World, acme: CredentialId
) -> None:
    # given a key that was checked, and a clock that then steps back by a day
    await world.work(hours=30)
    world.clock.back(world.broker, hours=24)
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")

    # when the customer revokes it, and a job is told so
    world.revoke_upstream(world.upstream_keys["acme"])
    for _ in range(2):  # the second call is on the record after what the first one was answered
        assert (await world.proxied(lease, "/facilities")).status_code == 401

    # then it is asked about in the next round, which finds out
    check = HealthCheck(world.services.parts, world.services.verification)
    found = await due.first(world.services.parts.db, check.suspects(), "raptor-comply", 20)
    assert [row.credential_id for row in found] == [acme]
    await world.broker.worker.duties["check_suspects"].run()
    assert await health(world, acme) == "failing"


async def test_checks_go_on_after_the_clock_stepped_back(world: World, acme: CredentialId) -> None:
    await world.work(hours=30)
    world.clock.back(world.broker, hours=24)
    world.upstream.requests.clear()
    duties = world.broker.worker.duties
    for _ in range(3):
        await duties["catch_up"].do(world.services.parts.clock())
        await duties["check_health"].run()
    assert len(world.upstream.requests) == 1, "asked again once, and from then on as scheduled"
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=30)
    assert await health(world, acme) == "failing"


async def test_nobody_asks_about_a_key_that_is_paused_until_it_is_resumed(world: World, acme: CredentialId) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await pausing.pause(session, BROKER, acme, now=world.clock())
    world.upstream.requests.clear()
    for _ in range(3):
        await world.work(hours=30)
    assert list(world.upstream.requests) == []
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await pausing.resume(session, BROKER, acme, now=world.clock())
    await world.work()
    assert len(world.upstream.requests) == 1
