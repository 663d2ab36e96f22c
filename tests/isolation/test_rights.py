"""Whoever can write the database gives nobody a right: what the broker didn't write is refused, recorded and told."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Table, insert, select, text, update

from broker import app as composition
from broker import rights
from broker.base.db import EVERY_TENANT
from broker.client.identity import Identity, generate, public
from broker.credentials.tables import CredentialRow
from broker.intake.tables import IntakeRow
from broker.notifications.tables import NoticeRow
from broker.rewrap import rewrap_all
from broker.tables import METADATA
from tests.support.ids import nth
from tests.support.links import old_link
from tests.support.world import PUBLIC_URL, Job, World


async def sql(world: World, statement: str, **values: Any) -> None:
    """What somebody does who can write the database: PostgreSQL's fences don't hold its owner."""
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(text(statement), values)


async def changed(world: World, table: str, row: str, **values: Any) -> None:
    """Overwrite columns of one row; times in memory are over."""
    there = METADATA.tables[table]
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(there).where(there.c.id == row).values(values))
    world.services.snapshots.forget()
    world.services.leasing.remembered.clear()


async def copied(world: World, table: str, row: str, **values: Any) -> None:
    """Insert a row that is like another one but for some columns."""
    there = METADATA.tables[table]
    new = {**await found(world, there, there.c.id == row), **values}
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(insert(there).values(new))


async def found(world: World, table: Table, which: ColumnElement[bool]) -> dict[str, Any]:
    """The row, as it is in Python."""
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return dict((await session.execute(select(table).where(which))).mappings().one())


async def reported(world: World) -> list[tuple[str, str]]:
    """Rows that operators were told of, by table; each is on the record as often."""
    told = (await world.call("GET", "/v1/notices"))["items"]
    texts = [re.match(r"The row (\S+) of (\w+) ", one["text"]) for one in told if one["kind"] == "right_altered"]
    found = [(match[2], match[1]) for match in texts if match]
    assert [event["core"]["subject"] for event in await world.events(kind="right.altered")] == [row for _, row in found]
    return found


async def acting(world: World) -> tuple[Job, str]:
    """A job that may use acme's key, not see it; and its grant."""
    await world.key_for("acme")
    job = await world.job()
    return job, await world.grant(job, "acme")


async def test_a_job_that_was_inserted_gets_no_token(world: World) -> None:
    job, _ = await acting(world)
    mine = generate("EdDSA")
    await copied(world, "workloads", job.id, id="wkl_" + "1" * 32, name="mine", jwks=public(mine))
    answer = await Job(world, Identity(PUBLIC_URL, "wkl_" + "1" * 32, mine)).token()
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert await reported(world) == [("workloads", "wkl_" + "1" * 32)]


async def test_a_job_whose_keys_were_changed_is_refused(world: World) -> None:
    job, _ = await acting(world)
    mine = generate("EdDSA")
    await changed(world, "workloads", job.id, jwks=public(mine))
    answer = await Job(world, Identity(PUBLIC_URL, job.id, mine)).token()
    assert answer.status_code == 401
    assert (await world.events(kind="auth.token_refused"))[-1]["core"]["reason"] == "rights_altered"


async def test_a_job_that_was_changed_uses_no_lease_from_before(world: World) -> None:
    job, _ = await acting(world)
    lease = await job.lease("acme")
    await changed(world, "workloads", job.id, jwks=public(generate("EdDSA")))
    assert (await world.proxied(lease, "/facilities")).status_code == 403
    assert await reported(world) == [("workloads", job.id)]


async def test_a_grant_that_was_inserted_gives_nothing(world: World) -> None:
    job, grant = await acting(world)
    await world.key_for("globex")
    globex = (await world.call("GET", "/v1/organizations/globex"))["id"]
    await copied(world, "grants", grant, id="grt_" + "1" * 32, organization_id=globex, modes=["reveal", "use"])
    for mode in ("use", "reveal"):
        refused = await job.ask("globex", mode=mode)
        assert (refused.status_code, refused.json()["code"]) == (403, "rights_altered")
    assert await reported(world) == [("grants", "grt_" + "1" * 32)], "once, however often it is met"
    assert (await world.events(kind="lease.denied"))[-1]["core"]["reason"] == "rights_altered"


@pytest.mark.parametrize(
    "change",
    [
        {"modes": ["reveal", "use"]},
        {"max_ttl": 86_400},
        {"expires_at": 4_000_000_000_000},
        {"rules": [{"methods": ["DELETE"], "paths": ["/**"]}]},
        {"max_uses": 1_000},
        {"label": "other"},
        {"row_mac": None},
        {"row_mac": b"\1" + bytes(32)},
    ],
    ids=str,
)
async def test_a_grant_that_was_changed_gives_nothing(world: World, change: dict[str, Any]) -> None:
    job, grant = await acting(world)
    lease = await job.lease("acme")
    await changed(world, "grants", grant, **change)
    assert (await job.ask("acme")).json()["code"] in {"rights_altered", "no_grant"}
    assert (await world.proxied(lease, "/facilities")).status_code == 403
    # it can still be taken back
    await world.call("POST", f"/v1/grants/{grant}/revoke", json={"reason": "altered"})


async def test_a_grant_beside_one_that_was_changed_goes_on(world: World) -> None:
    job, grant = await acting(world)
    await world.grant(job, "acme")
    await changed(world, "grants", grant, max_ttl=86_400)
    await job.lease("acme")
    assert await reported(world) == [("grants", grant)]


@pytest.mark.parametrize("change", [{"roles": ["admin"]}, {"organizations": None}, {"expires_at": 4 * 10**12}], ids=str)
async def test_an_account_that_was_changed_may_do_nothing(world: World, change: dict[str, Any]) -> None:
    await world.organization("acme")
    account = await world.operator("bob", "operator", organizations=["acme"])
    bob = (await world.call("GET", "/v1/operators/me", as_=account))["id"]
    await changed(world, "operators", bob, **change)
    assert (await world.http.get("/v1/grants", headers=account)).status_code == 401
    assert await reported(world) == [("operators", bob)]


async def test_an_account_does_not_take_anothers_token(world: World) -> None:
    account = await world.operator("bob", "operator")
    bob = (await world.call("GET", "/v1/operators/me", as_=account))["id"]
    admin = (await world.call("GET", "/v1/operators/me"))["id"]
    accounts = METADATA.tables["operators"]
    mine = (await found(world, accounts, accounts.c.id == bob))["token_hash"]
    await changed(world, "operators", bob, token_hash=b"x" * 32)
    await changed(world, "operators", admin, token_hash=mine)
    assert (await world.http.get("/v1/operators", headers=account)).status_code == 401


_BOOTSTRAP = "INSERT INTO bootstrap (id, token_hash, expires_at) VALUES (:id, :token_hash, :expires_at)"


@pytest.mark.parametrize("later", [0, 86_400_000])
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_spent_one_time_token_makes_no_second_account(world: World, later: int, deleted: bool) -> None:
    token = await composition.bootstrap_token(world.services, replace=True)
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        row = (await session.execute(text("SELECT * FROM bootstrap"))).mappings().one()
    made = await world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": "bea"})
    back = {**row, "expires_at": row["expires_at"] + later}
    await sql(world, _BOOTSTRAP, **back)
    if deleted:
        await sql(world, "DELETE FROM operators WHERE name = 'bea'")
    again = await world.http.post("/v1/bootstrap", json={"token": token, "name": "cyd"})
    if again.status_code != 401:
        assert (later, deleted) == (0, True)
        assert again.json()["operator"]["id"] == made["operator"]["id"], "the same account, not another person's"


async def test_deleting_all_accounts_prints_no_token_for_a_new_first_one(world: World) -> None:
    await sql(world, "DELETE FROM operators")
    assert await composition.bootstrap_token(world.services) is None


async def test_customers_do_not_change_names(world: World) -> None:
    job, _ = await acting(world)
    await world.organization("globex")
    for slug, other in (("acme", "x"), ("globex", "acme"), ("x", "globex")):
        await sql(world, "UPDATE organizations SET slug = :other WHERE slug = :slug", slug=slug, other=other)
    world.services.snapshots.forget()
    assert (await job.ask("acme")).json()["code"] in {"rights_altered", "no_grant"}
    wanted = {"organization": "acme", "provider": "raptor-comply", "contact": "admin@acme.example"}
    refused = await world.call("POST", "/v1/intakes", status=503, json=wanted)
    assert refused["code"] == "rights_altered"
    assert {table for table, _ in await reported(world)} == {"organizations"}


@pytest.mark.parametrize(
    "change",
    [
        {"label": "other"},
        {"public_key": bytes(9)},
        {"proof_hash": bytes(32)},
        {"link_key": None},
        {"link_key": bytes(9)},
        {"status_key": bytes(9)},
    ],
    ids=str,
)
async def test_a_request_for_a_key_that_was_changed_takes_none(world: World, change: dict[str, Any]) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await changed(world, "intakes", intake, **change)
    assert (await world.open(intake, secret)).status_code == 404
    assert await reported(world) == [("intakes", intake)]


async def test_a_request_from_before_links_had_keys_is_genuine_until_it_is_given_one(world: World) -> None:
    await world.organization("acme")
    old, secret = await old_link(world, "acme")
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        row = await session.get_one(IntakeRow, old)
    assert row.genuine
    await changed(world, "intakes", old, link_key=bytes(9))
    assert (await world.open(old, secret)).status_code == 404
    assert ("intakes", old) in await reported(world)


async def test_a_status_code_does_not_become_another_tenants(world: World) -> None:
    for slug in ("acme", "globex"):
        await world.organization(slug)
        intake, secret = await world.request_key(slug)
        await world.submit(intake, secret, world.upstream_keys[slug])
    intakes = METADATA.tables["intakes"]
    acme = await found(world, intakes, intakes.c.id != intake)
    taken = ("organization_id", "credential_id", "version")
    await changed(world, "intakes", intake, **{name: acme[name] for name in taken})
    assert (await world.say("status", intake, world.codes[intake], "open")).status_code == 404


async def test_the_host_of_earlier_keys_is_not_changed_by_a_later_one(world: World) -> None:
    # given a credential whose key is revoked here, and may still be good upstream
    credential = await world.key_for("acme")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        (await session.get_one(CredentialRow, credential)).variables = {"site": "one"}
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={"reason": "left"})
    # when another key comes for another host, then it isn't taken
    wanted = {"organization": "acme", "provider": "raptor-comply", "key": world.new_key("acme")}
    refused = await world.call("POST", "/v1/credentials", status=409, json=wanted)
    assert "revoke the credential" in refused["detail"]
    # and once the credential is revoked, a new one takes its label
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "moved"})
    made = await world.call("POST", "/v1/credentials", status=201, json=wanted)
    assert made["credential"] != credential


async def test_a_report_can_not_be_silenced_beforehand(world: World) -> None:
    job, grant = await acting(world)
    await changed(world, "grants", grant, max_ttl=86_400)
    dedup = f"altered/grants/{grant}/{world.clock() // 86_400_000}"
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        values = {"kind": "key_resumed", "credential_id": "", "version": 0, "provider": "", "contact": "", "facts": {}}
        session.add(NoticeRow(id=nth("ntc"), organization_id=acme, dedup=dedup, created_at=0, **values))
    await job.ask("acme")
    assert len(await world.events(kind="right.altered")) == 1


async def test_a_lease_without_an_authenticator_is_told_of(world: World) -> None:
    job, _ = await acting(world)
    lease = await job.lease("acme")
    await changed(world, "leases", lease["lease"]["id"], row_mac=None)
    assert (await world.proxied(lease, "/facilities")).status_code == 401
    assert await reported(world) == [("leases", lease["lease"]["id"])]


async def test_what_no_broker_would_write_is_shown_as_altered_and_can_be_taken_back(world: World) -> None:
    job, grant = await acting(world)
    account = await world.operator("bob", "operator")
    bob = (await world.call("GET", "/v1/operators/me", as_=account))["id"]
    await changed(world, "grants", grant, rules=[5], modes={"a": 1})
    await changed(world, "operators", bob, organizations={"a": 5}, roles=[7])
    await changed(world, "workloads", job.id, jwks={"keys": [1]})
    if world.services.parts.db.dialect == "sqlite":
        await sql(world, "UPDATE grants SET row_mac = 'text'")
    assert (await job.token()).status_code == 401
    (shown,) = (await world.call("GET", "/v1/grants"))["items"]
    assert shown["state"] == "altered"
    assert "altered" in [one["state"] for one in (await world.call("GET", "/v1/operators"))["items"]]
    assert (await world.call("POST", f"/v1/grants/{grant}/revoke", json={"reason": "x"}))["state"] == "revoked"
    assert (await world.call("POST", f"/v1/operators/{bob}/revoke"))["state"] == "revoked"
    assert len([row async for row in rights.altered(world.services.parts.db, world.services.parts.clock())]) == 3


async def test_a_key_is_not_sent_to_a_host_that_was_changed(world: World) -> None:
    job, _ = await acting(world)
    lease = await job.lease("acme")
    credential = lease["lease"]["credential"]
    sent = len(world.upstream.requests)
    await changed(world, "credentials", credential, variables={"host": "evil"})
    assert (await job.ask("acme")).json()["code"] == "rights_altered"
    assert (await world.proxied(lease, "/facilities")).status_code == 403
    await world.work(hours=30)
    assert len(world.upstream.requests) == sent
    assert ("credentials", credential) in await reported(world)
    # its revocation goes on
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "altered"})


async def test_a_lease_of_one_tenant_does_not_become_another_ones(world: World) -> None:
    job, _ = await acting(world)
    await world.key_for("globex")
    other = await world.job("other")
    await world.grant(other, "globex")
    mine, theirs = await job.lease("acme"), await other.lease("globex")
    leases = METADATA.tables["leases"]
    row = await found(world, leases, leases.c.id == theirs["lease"]["id"])
    taken = ("organization_id", "workload_id", "grant_id", "credential_id", "row_mac")
    await changed(world, "leases", mine["lease"]["id"], **{name: row[name] for name in taken})
    for organization in ("acme", "globex"):
        got = await world.proxied(mine, "/facilities", organization=organization)
        assert got.status_code in {401, 403, 404}, got.text
    assert await reported(world) == [("leases", mine["lease"]["id"])]


async def test_a_lease_lasts_no_longer_than_it_was_given_for(world: World) -> None:
    job, _ = await acting(world)
    lease = await job.lease("acme")
    await changed(world, "leases", lease["lease"]["id"], expires_at=4 * 10**12)
    world.clock.forward(hours=25)
    assert (await world.proxied(lease, "/facilities")).status_code in {401, 403, 409}


async def test_all_rights_can_be_looked_through_and_rewrap_names_those_that_are_not_the_brokers(world: World) -> None:
    job, grant = await acting(world)
    await job.lease("acme")
    services = world.services
    assert [row async for row in rights.altered(services.parts.db, services.parts.clock())] == []
    await changed(world, "grants", grant, max_ttl=86_400)
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    assert [tuple(row) async for row in rights.altered(services.parts.db, services.parts.clock())] == [
        ("grants", grant, acme)
    ]
    done = await rewrap_all(services)
    assert [one.where for one in done.stuck] == [f"grants, id={grant}"]
    assert [row.id async for row in rights.altered(services.parts.db, services.parts.clock())] == [grant]
