"""People's accounts: the one-time start, roles, and their end."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from broker import app as composition
from broker.base.clock import Millis, later
from broker.base.db import EVERY_TENANT, Database
from broker.formats import token as tokens
from broker.identity import operators
from broker.identity.tables import AccountRow, BootstrapRow, SessionRow
from tests.support.world import World

KEY = bytes(32)
NOW = Millis(1_800_000_000_000)


async def test_the_bootstrap_token_works_once_and_only_while_there_is_no_operator(world: World) -> None:
    # given a broker that has its first admin, then the token is gone and no other is made
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(BootstrapRow)) is None
    assert await composition.bootstrap_token(world.services) is None
    refused = await world.http.post("/v1/bootstrap", json={"token": "kbb_" + "a" * 49, "name": "eve"})
    assert refused.status_code == 401


async def test_of_several_starts_at_once_one_has_the_token_and_it_stays_good(db: Database) -> None:
    db.row_key = KEY

    async def start(*, at: Millis = NOW, replace: bool = False) -> str | None:
        async with db.write(EVERY_TENANT) as session:
            return await operators.offer_bootstrap(session, KEY, at, replace=replace)

    async def made_with(token: str, *, at: Millis = NOW) -> bool:
        async with db.write(EVERY_TENANT) as session:
            try:
                await operators.bootstrap(session, KEY, "", bootstrap_token=token, name="ada", now=at)
            except operators.OneTimeTokenRefused:
                return False
            await session.rollback()
            return True

    (first,) = [token for token in await asyncio.gather(*(start() for _ in range(4))) if token]
    assert await start() is None
    assert await made_with(first)
    # a new one that was asked for ends it
    second = await start(replace=True)
    assert second is not None
    assert (await made_with(first), await made_with(second)) == (False, True)
    # so does its time, when there is another again
    late = later(NOW, operators.BOOTSTRAP_MS)
    assert (await made_with(second, at=later(late, -1)), await made_with(second, at=late)) == (True, False)
    assert await start(at=late)


async def test_a_bootstrap_token_is_spent_once(db: Database) -> None:
    db.row_key = KEY
    async with db.write(EVERY_TENANT) as session:
        token = await operators.offer_bootstrap(session, KEY, NOW)
    assert token is not None
    async with db.write(EVERY_TENANT) as session:
        await operators.bootstrap(session, KEY, "", bootstrap_token=token, name="ada", now=NOW)
    async with db.write(EVERY_TENANT) as session:
        with pytest.raises(operators.OneTimeTokenRefused):
            await operators.bootstrap(session, KEY, "", bootstrap_token=token, name="eve", now=NOW)


async def test_tokens_are_stored_as_keyed_hashes(world: World) -> None:
    key = world.services.parts.keys.token_hash
    machine = await world.machine("night", "security")
    for headers, column in ((world.admin, SessionRow.token_hash), (machine, AccountRow.token_hash)):
        token = headers["Authorization"].removeprefix("Bearer ")
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            kept = list(await session.scalars(select(column)))
        assert tokens.keyed_hash(key, token) in kept
        assert tokens.keyed_hash(b"", token) not in kept


async def test_each_role_does_its_own_work_and_refusals_are_recorded(world: World) -> None:
    credential = await world.key_for("acme")
    operator = await world.operator("olga", "operator")
    security = await world.operator("sven", "security")
    intake = {"organization": "acme", "provider": "raptor-comply", "label": "two", "contact": "a@b.example"}
    # operators ask for keys and don't read the record
    await world.call("POST", "/v1/intakes", status=201, as_=operator, json=intake)
    refused = await world.call("GET", "/v1/audit/events", status=403, as_=operator)
    assert refused["detail"] == "This needs the role admin or security; ask an admin."
    # security reads the record and cuts off, and neither asks for keys nor grants
    await world.call("GET", "/v1/audit/events", as_=security)
    await world.call("POST", "/v1/intakes", status=403, as_=security, json=intake)
    grant = {"workload": "x", "organizations": ["acme"], "provider": "raptor-comply", "modes": ["reveal"]}
    await world.call("POST", "/v1/grants", status=403, as_=security, json=grant)
    await world.call("POST", f"/v1/credentials/{credential}/revoke", as_=security, json={"reason": "exposed"})
    # neither makes accounts
    account = {"name": "eve", "roles": ["admin"]}
    for headers in (operator, security):
        await world.call("POST", "/v1/operators", status=403, as_=headers, json=account)
    assert len(await world.events(kind="auth.denied")) == 5


async def test_no_operator_of_any_role_is_shown_a_key(world: World) -> None:
    await world.key_for("acme")
    key = world.upstream_keys["acme"]
    for path in ("/v1/credentials", "/v1/intakes", "/v1/leases", "/v1/audit/events", "/v1/providers"):
        assert key not in (await world.http.get(path, headers=world.admin)).text
    lease = {"organization": "acme", "provider": "raptor-comply", "mode": "reveal"}
    assert (await world.http.post("/v1/leases", headers=world.admin, json=lease)).status_code == 401


async def test_a_revoked_or_expired_account_is_out(world: World) -> None:
    olga = await world.operator("olga", "operator")
    account = await world.call("GET", "/v1/operators/me", as_=olga)
    await world.call("POST", f"/v1/operators/{account['id']}/revoke")
    await world.call("GET", "/v1/organizations", as_=olga, status=401)
    again = await world.call("POST", f"/v1/operators/{account['id']}/revoke")
    assert again["state"] == "revoked"
    assert len(await world.events(kind="operator.revoked")) == 1
    machine = await world.machine("night", "operator")
    world.clock.forward(hours=24 * 91)
    await world.call("GET", "/v1/organizations", as_=machine, status=401)


async def test_the_last_admin_stays(world: World) -> None:
    me = await world.call("GET", "/v1/operators/me")
    refused = await world.call("POST", f"/v1/operators/{me['id']}/revoke", status=409)
    assert "last admin" in refused["detail"]
    await world.operator("olga", "operator")  # who is no admin
    await world.call("POST", f"/v1/operators/{me['id']}/revoke", status=409)
    await world.operator("grace", "admin")
    await world.call("POST", f"/v1/operators/{me['id']}/revoke")


async def test_an_account_is_found_by_its_name_as_by_its_id(world: World) -> None:
    made = await world.call("POST", "/v1/operators", status=201, json={"name": "Jane Doe", "roles": ["operator"]})
    account = made["operator"]["id"]
    for named in ("Jane%20Doe", account):
        again = await world.call("POST", f"/v1/operators/{named}/link")
        assert again["operator"]["id"] == account
    assert (await world.call("GET", "/v1/sessions", params={"operator": "Jane Doe"}))["items"] == []
    assert (await world.call("POST", "/v1/operators/Jane%20Doe/revoke"))["state"] == "revoked"
    # when the name is somebody else's meanwhile, it is theirs
    other = await world.call("POST", "/v1/operators", status=201, json={"name": "Jane Doe", "roles": ["operator"]})
    again = await world.call("POST", "/v1/operators/Jane%20Doe/link")
    assert again["operator"]["id"] == other["operator"]["id"]
    # and what can't be undone takes no name
    await world.call("POST", "/v1/operators/Jane%20Doe/erase", status=422)
    await world.call("POST", "/v1/operators/nobody/link", status=404)


async def test_a_limited_admin_finds_nobody_beyond_their_limits_by_name(world: World) -> None:
    for slug in ("acme", "globex"):
        await world.organization(slug)
    admin = await world.operator("acme-admin", "admin", organizations=["acme"])
    await world.operator("gina", "operator", organizations=["globex"])
    for verb in ("link", "revoke"):
        refused = await world.call("POST", f"/v1/operators/gina/{verb}", as_=admin, status=404)
        assert refused == await world.call("POST", f"/v1/operators/nobody/{verb}", as_=admin, status=404)
