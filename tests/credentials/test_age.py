"""How old a key may become: whose interval counts, who is asked ahead of time, and what happens to old keys."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, update

from broker.base import paging
from broker.base.clock import DAY_MS
from broker.base.db import EVERY_TENANT
from broker.care import age
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import CredentialId
from broker.rotations import schedule
from broker.rotations.requests import Rotating
from tests.support.world import World


@pytest.fixture
async def acme(world: World) -> str:
    return await world.key_for("acme")


async def listed(world: World, only: str) -> list[str]:
    found = await world.call("GET", "/v1/credentials", params={"only": only})
    return [item["id"] for item in found["items"]]


async def policy(world: World, credential: str, **wanted: Any) -> None:
    await world.call("POST", f"/v1/credentials/{credential}/policy", json=wanted)


async def test_the_nearest_interval_counts(world: World, acme: str) -> None:
    # the provider says 365 days
    assert await listed(world, "due_soon") == []
    # the organization says less
    await world.call("POST", "/v1/organizations/acme/policy", json={"rotation_days": 20})
    assert await listed(world, "due_soon") == [acme]
    # the credential has the last word
    await policy(world, acme, rotation_days=200)
    assert await listed(world, "due_soon") == []
    await policy(world, acme)
    assert await listed(world, "due_soon") == [acme]


async def test_due_soon_overdue_and_never_used_are_views(world: World, acme: str) -> None:
    await policy(world, acme, rotation_days=10)
    assert (await listed(world, "due_soon"), await listed(world, "overdue")) == ([acme], [])
    world.clock.forward(hours=24 * 11)
    assert (await listed(world, "due_soon"), await listed(world, "overdue")) == ([], [acme])
    assert await listed(world, "never_used") == [acme]
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(CredentialRow).values(used_at=world.clock()))
    assert await listed(world, "never_used") == []


async def test_customers_are_asked_ahead_of_time_once_and_not_again_right_after_it_was_given_up(
    world: World, acme: str
) -> None:
    await policy(world, acme, rotation_days=31)
    await world.work()
    assert (await world.call("GET", "/v1/rotations"))["items"] == [], "not 31 days ahead"
    for _ in range(3):
        await world.work(hours=24)
    (rotation,) = (await world.call("GET", "/v1/rotations"))["items"]
    assert (rotation["kind"], rotation["state"]) == ("automatic", "requested")
    assert await listed(world, "rotating") == [acme]
    # the operator fetches a link for it
    made = await world.call("POST", f"/v1/intakes/{rotation['intake']}/link", json={})
    assert made["link"].startswith("http")

    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    await world.work(hours=24)
    assert len((await world.call("GET", "/v1/rotations"))["items"]) == 1
    await world.work(hours=24 * 7)
    assert len((await world.call("GET", "/v1/rotations"))["items"]) == 2


async def test_an_overdue_key_is_told_of_once(world: World, acme: str) -> None:
    await policy(world, acme, rotation_days=5)
    for _ in range(10):
        await world.work(hours=24)
    told = [one["kind"] for one in (await world.call("GET", "/v1/notices"))["items"]]
    assert told.count("key_overdue") == 1


async def test_each_of_several_overdue_keys_is_told_of(world: World, acme: str) -> None:
    """Whoever was told of one isn't taken to have been told of another."""
    globex = await world.key_for("globex")
    await policy(world, acme, rotation_days=5)
    for _ in range(7):
        await world.work(hours=24)
    await policy(world, globex, rotation_days=5)
    await world.work(hours=24)
    told = [one["credential"] for one in await world.items("/v1/notices") if one["kind"] == "key_overdue"]
    assert sorted(told) == sorted([acme, globex])


async def test_a_key_over_its_age_is_refused_where_the_policy_says_so_and_only_there(world: World, acme: str) -> None:
    job = await world.job()
    await world.grant(job, "acme", max_ttl=86_400)
    world.clock.forward(hours=24 * 10)
    lease = await job.lease("acme", ttl=86_400)
    await policy(world, acme, max_age_days=5, on_max_age="warn")
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert await listed(world, "overdue") == [acme]

    await policy(world, acme, max_age_days=5, on_max_age="refuse")
    for refused in (await world.proxied(lease, "/facilities"), await job.ask("acme")):
        assert (refused.status_code, refused.json()["code"]) == (403, "key_too_old")
        assert "broker key rotate" in refused.json()["detail"]

    # and a new key ends that
    _, intake, secret = await world.rotate(acme)
    await world.submit(intake, secret, world.new_key("acme"))
    assert (await world.proxied(lease, "/facilities")).status_code == 200


async def test_a_refusing_policy_without_an_age_is_refused(world: World, acme: str) -> None:
    refused = await world.call("POST", f"/v1/credentials/{acme}/policy", status=422, json={"on_max_age": "refuse"})
    assert refused["detail"].startswith("max_age_days:")


async def told(world: World) -> list[str]:
    return [one["kind"] for one in (await world.call("GET", "/v1/notices"))["items"] if one["credential"]]


async def test_a_maximum_age_is_a_keys_time_too_customers_are_asked_before_it_comes(world: World, acme: str) -> None:
    await policy(world, acme, max_age_days=60, on_max_age="refuse")
    assert await listed(world, "due_soon") == []
    await world.work(hours=24 * 31)
    assert await listed(world, "due_soon") == [acme]
    (rotation,) = (await world.call("GET", "/v1/rotations"))["items"]
    assert (rotation["kind"], rotation["state"]) == ("automatic", "requested")
    # the shorter of the two counts
    await policy(world, acme, rotation_days=10, max_age_days=60)
    assert await listed(world, "overdue") == [acme]


async def test_a_key_that_its_policy_begins_to_refuse_is_told_of_once(world: World, acme: str) -> None:
    await policy(world, acme, rotation_days=40, max_age_days=45, on_max_age="refuse")
    for _ in range(25):
        await world.work(hours=48)
    assert await told(world) == ["rotation_requested", "key_overdue", "key_too_old"]
    (notice,) = [one for one in (await world.call("GET", "/v1/notices"))["items"] if one["kind"] == "key_too_old"]
    assert notice["severity"] == "urgent"
    assert "jobs are refused" in notice["text"]


async def test_a_maximum_age_that_only_warns_does_so_once(world: World, acme: str) -> None:
    await policy(world, acme, max_age_days=5, on_max_age="warn")
    for _ in range(10):
        await world.work(hours=24)
    assert await told(world) == ["rotation_requested", "key_overdue"]


async def test_a_provider_that_is_no_longer_declared_keeps_no_other_key_from_its_turn(world: World, acme: str) -> None:
    other = await world.key_for("borealis")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(CredentialRow).where(CredentialRow.id == acme).values(provider="gone"))
        await session.execute(update(VersionRow).where(VersionRow.credential_id == acme).values(provider="gone"))
    for credential in (acme, other):
        await policy(world, credential, rotation_days=5)
    await world.work(hours=24 * 6)
    (rotation,) = (await world.call("GET", "/v1/rotations"))["items"]
    assert rotation["credential"] == other
    assert (await told(world)).count("key_overdue") == 2


async def test_one_key_that_cannot_be_asked_for_keeps_no_other_from_its_turn(
    world: World, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await world.key_for("borealis")
    for credential in (acme, other):
        await policy(world, credential, rotation_days=5)
    real = Rotating.ask

    async def failing(
        self: Rotating, session: Any, actor: Any, credential: CredentialRow, *more: Any, **by: Any
    ) -> Any:
        if credential.id == acme:
            raise RuntimeError("no")
        return await real(self, session, actor, credential, *more, **by)

    monkeypatch.setattr(Rotating, "ask", failing)
    await world.work(hours=24 * 6)
    assert [one["credential"] for one in (await world.call("GET", "/v1/rotations"))["items"]] == [other]
    assert (await told(world)).count("key_overdue") == 2


async def dated(world: World, credential: str) -> int | None:
    """In how many days the key has to be replaced, by its row."""
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        row = await session.get_one(CredentialRow, CredentialId(credential))
        return None if row.due_at is None else round((row.due_at - world.clock()) / DAY_MS)


async def test_what_a_key_is_dated_by_follows_its_moves_and_policies(world: World, acme: str) -> None:
    assert await dated(world, acme) == 365
    await world.call("POST", "/v1/organizations/acme/policy", json={"rotation_days": 100})
    assert await dated(world, acme) == 100
    world.clock.forward(hours=24 * 10)
    rotation, intake, secret = await world.rotate(acme)
    assert await dated(world, acme) == 90
    await world.submit(intake, secret, world.new_key("acme"))
    assert await dated(world, acme) == 100
    await world.call("POST", f"/v1/rotations/{rotation['id']}/rollback", json={})
    assert await dated(world, acme) == 90
    await policy(world, acme, rotation_days=300, max_age_days=50)
    assert await dated(world, acme) == 40
    await world.call("POST", f"/v1/credentials/{acme}/revoke", json={})
    assert await dated(world, acme) is None


async def test_a_key_that_comes_after_its_organizations_policy_is_dated_by_it(world: World) -> None:
    await world.organization("borealis")
    await world.call("POST", "/v1/organizations/borealis/policy", json={"rotation_days": 7})
    intake, secret = await world.request_key("borealis")
    await world.submit(intake, secret, world.upstream_keys["borealis"])
    (held,) = await world.items("/v1/credentials", organization="borealis")
    assert await dated(world, held["id"]) == 7


async def test_the_worker_dates_keys_that_never_were_and_those_of_a_provider_that_names_another_interval(
    world: World, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(age, "PAGE", 1)
    parts, others = world.services.parts, [await world.key_for(slug) for slug in ("borealis", "globex")]
    await world.call("POST", "/v1/organizations/globex/policy", json={"rotation_days": 30})
    # one from before keys were dated, with all that is noted on it; the others when the provider named ten days
    never = {"due_at": None, "provider_days": None, "organization_days": None}
    async with parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(CredentialRow).values(provider_days=10, due_at=1))
        await session.execute(update(CredentialRow).where(CredentialRow.id == others[1]).values(**never))
    await age.date_keys(parts)
    assert [await dated(world, each) for each in (acme, *others)] == [365, 365, 30]
    # a provider that is declared no more says nothing; the organization and the credential still do
    async with parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(CredentialRow).where(CredentialRow.id != acme).values(provider="gone"))
    await age.date_keys(parts)
    assert [await dated(world, each) for each in (acme, *others)] == [365, None, 30]


async def test_a_key_is_asked_for_however_many_before_it_are_being_changed(
    world: World, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "PAGE", 1)
    keys = [acme, *[await world.key_for(slug) for slug in ("borealis", "globex", "initech")]]
    for days, credential in enumerate(keys, start=2):
        await policy(world, credential, rotation_days=days)
    parts, rotating = world.services.parts, world.services.rotating
    asked = [await schedule.ask_for_due(parts, rotating, ahead_days=30, limit=1) for _ in range(5)]
    assert asked == [1, 1, 1, 1, 0]
    assert [one["credential"] for one in await world.items("/v1/rotations")] == keys, "the longest due come first"


async def test_due_keys_are_looked_for_by_the_index_of_their_times_a_page_at_once(world: World, acme: str) -> None:
    """The statements that look for due keys have a limit, and go by the index of the times."""
    db = world.services.parts.db
    await policy(world, acme, rotation_days=10)
    ran: list[tuple[str, Any]] = []
    event.listen(db.engine.sync_engine, "before_cursor_execute", note := (lambda *given: ran.append(given[2:4])))
    await schedule.ask_for_due(world.services.parts, world.services.rotating, ahead_days=1)
    await schedule.notify_overdue(world.services.parts)
    event.remove(db.engine.sync_engine, "before_cursor_execute", note)
    looks = [(sql, values) for sql, values in ran if "FROM credentials" in sql]
    assert len(looks) == 2, "one page each, and no key on it"
    async with db.read(EVERY_TENANT) as session:
        await paging.go_by_index(session)
        for sql, values in looks:
            assert "LIMIT" in sql
            explain = "EXPLAIN" if db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
            plan = await (await session.connection()).exec_driver_sql(f"{explain} {sql}", values)
            assert "ix_credentials_due" in str(plan.all())
