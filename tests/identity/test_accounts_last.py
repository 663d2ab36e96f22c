"""Nobody is locked out: machines renew their tokens, names are free again, and admins get back in."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from broker import app as composition
from broker.base.db import EVERY_TENANT
from broker.identity import operators
from broker.notifications.tables import NoticeRow
from tests.support.world import World


async def renewed(world: World, by: dict[str, str]) -> dict[str, str]:
    made = await world.call("POST", "/v1/operators/me/renew", as_=by)
    return {"Authorization": f"Bearer {made['token']}"}


async def notices(world: World, kind: str) -> list[NoticeRow]:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return list(await session.scalars(select(NoticeRow).where(NoticeRow.kind == kind).order_by(NoticeRow.id)))


async def test_a_renewed_token_lasts_as_a_new_one_and_the_previous_one_an_hour(world: World) -> None:
    olga = await world.machine("olga", "operator")
    world.clock.forward(hours=24 * 80)
    fresh = await renewed(world, olga)
    me = await world.call("GET", "/v1/operators/me", as_=fresh)
    world.clock.forward(hours=0.9)
    assert (await world.call("GET", "/v1/operators/me", as_=olga))["id"] == me["id"]
    world.clock.forward(hours=0.2)
    refused = await world.call("GET", "/v1/operators/me", as_=olga, status=401)
    assert "`broker operator recover`" in refused["detail"]
    world.clock.forward(hours=24 * 89)
    assert (await world.call("GET", "/v1/operators/me", as_=fresh))["state"] == "active"
    world.clock.forward(hours=24)
    await world.call("GET", "/v1/operators/me", as_=fresh, status=401)


async def test_an_account_that_is_ended_has_no_token_that_works(world: World) -> None:
    olga = await world.machine("olga", "operator")
    fresh = await renewed(world, olga)
    me = await world.call("GET", "/v1/operators/me", as_=fresh)
    await world.call("POST", f"/v1/operators/{me['id']}/revoke")
    for token in (olga, fresh):
        await world.call("GET", "/v1/operators/me", as_=token, status=401)
    assert [event["core"]["subject"] for event in await world.events(kind="operator.renewed")] == [me["id"]]


async def test_a_token_that_is_renewed_lasts_no_longer_than_whoever_made_it_wanted(world: World) -> None:
    week = await world.machine("week", "operator", days=7)
    world.clock.forward(hours=24 * 6)
    fresh = await renewed(world, week)
    world.clock.forward(hours=24 * 7 - 1)
    await world.call("GET", "/v1/operators/me", as_=fresh)
    world.clock.forward(hours=1)
    await world.call("GET", "/v1/operators/me", as_=fresh, status=401)
    await world.call("POST", "/v1/operators/me/renew", status=409)


async def test_a_previous_token_lasts_no_longer_than_it_would_have(world: World) -> None:
    olga = await world.machine("olga", "operator")
    world.clock.forward(hours=24 * operators.TOKEN_DAYS - 0.5)
    await renewed(world, olga)
    world.clock.forward(hours=0.6)
    await world.call("GET", "/v1/operators/me", as_=olga, status=401)


async def test_names_of_ended_accounts_and_jobs_are_free_again(world: World) -> None:
    olga = await world.operator("olga", "operator")
    first = await world.call("GET", "/v1/operators/me", as_=olga)
    await world.call("POST", "/v1/operators", status=409, json={"name": "olga", "roles": ["operator"]})
    await world.call("POST", f"/v1/operators/{first['id']}/revoke")
    again = await world.operator("olga", "operator")
    assert (await world.call("GET", "/v1/operators/me", as_=again))["id"] != first["id"]
    job = await world.job("sync")
    await world.call("POST", "/v1/workloads/sync/revoke", json={"reason": "lost"})
    assert (await world.call("GET", "/v1/workloads/sync"))["id"] == job.id, "the last that had the name"
    fresh = await world.job("sync")
    assert (await world.call("GET", "/v1/workloads/sync"))["id"] == fresh.id != job.id
    assert (await world.call("GET", f"/v1/workloads/{job.id}"))["state"] == "revoked"


async def test_the_name_of_a_machine_whose_token_has_expired_is_free_and_the_account_ended(world: World) -> None:
    olga = await world.machine("olga", "operator")
    first = await world.call("GET", "/v1/operators/me", as_=olga)
    world.clock.forward(hours=24 * 91)
    listed = await world.call("GET", "/v1/operators")
    assert {one["name"]: one["state"] for one in listed["items"]}["olga"] == "expired"
    await world.call("POST", "/v1/operators", status=201, json={"name": "olga", "roles": ["operator"]})
    (ended,) = await world.events(kind="operator.revoked")
    assert (ended["core"]["subject"], ended["core"]["reason"]) == (first["id"], "token_expired")


async def test_a_machine_is_no_admin_who_is_left(world: World) -> None:
    await world.machine("grace", "admin")
    me = await world.call("GET", "/v1/operators/me")
    refused = await world.call("POST", f"/v1/operators/{me['id']}/revoke", status=409)
    assert "last admin" in refused["detail"]


async def test_whoever_has_the_server_lets_an_admin_back_in_and_every_operator_is_notified(world: World) -> None:
    token = await composition.bootstrap_token(world.services, replace=True)
    # then they are notified before anybody uses it, and it is on the record
    assert len(await notices(world, "recovery_offered")) == 1
    made = await world.http.post("/v1/bootstrap", json={"token": token, "name": "bob"})
    assert made.status_code == 201
    assert await composition.admins(world.services) == 2
    # who lets the one in who lost their way
    bob = {"Authorization": f"Bearer {made.json()['token']}"}
    ada = await world.call("GET", "/v1/operators/me")
    link = await world.call("POST", f"/v1/operators/{ada['id']}/link", as_=bob)
    again = await world.signed_in(link["link"])
    assert (await world.call("GET", "/v1/operators/me", as_=again))["id"] == ada["id"]
    kinds = [event["kind"] for event in await world.events() if event["kind"].startswith("operator.")]
    assert kinds == [
        "operator.bootstrapped",
        "operator.link_made",
        "operator.recovery_offered",
        "operator.bootstrapped",
        "operator.link_made",
        "operator.link_made",
    ]
    spent = await world.http.post("/v1/bootstrap", json={"token": token, "name": "eve"})
    assert (spent.status_code, "`broker operator recover`" in spent.json()["detail"]) == (401, True)


async def test_the_first_token_of_all_is_no_recovery(world: World) -> None:
    assert not await world.events(kind="operator.recovery_offered")


async def test_operators_are_notified_14_and_2_days_before_a_token_ends_once_each(world: World) -> None:
    await world.machine("olga", "operator")

    async def days_later(days: float) -> list[Any]:
        world.clock.forward(hours=24 * days)
        for _ in range(2):
            async with world.services.parts.db.write(EVERY_TENANT) as session:
                await operators.remind(session, world.services.parts.clock())
        return [notice.facts["account"] for notice in await notices(world, "account_ends")]

    assert await days_later(75) == []
    assert await days_later(1.5) == ["olga"]
    assert len(await days_later(10)) == 1
    assert len(await days_later(2)) == 2
    assert len(await days_later(10)) == 2, "after the end nobody is told of it"
