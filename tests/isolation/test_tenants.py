"""Two fences between tenants, each tried on its own, then every endpoint together."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from broker import schema
from broker.base.db import EVERY_TENANT, Database, OutOfScope, Scope
from broker.base.errors import BrokerError
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats import ids, link_secret
from broker.formats.ids import CredentialId
from broker.grants.tables import GrantRow
from broker.intake.tables import IntakeRow
from broker.leases.tables import LeaseRow, UseRow
from broker.organizations.tables import OrganizationRow
from tests.support.databases import Postgres, is_month
from tests.support.ids import nth
from tests.support.world import Job, World

TENANT_TABLES: list[Any] = [CredentialRow, VersionRow, GrantRow, IntakeRow, LeaseRow, UseRow]


async def two_tenants(world: World) -> tuple[Job, dict[str, str]]:
    """acme and globex, alike in everything; ids of globex's things by path parameter."""
    credentials = {slug: await world.key_for(slug) for slug in ("acme", "globex")}
    job, other = await world.job("acme-job"), await world.job("globex-job")
    await world.grant(job, "acme")
    foreign_grant = await world.grant(other, "globex")
    await job.lease("acme")
    foreign_lease = await other.lease("globex")
    await world.proxied(foreign_lease, "/facilities")
    await world.request_key("acme", label="second")
    foreign_intake, _ = await world.request_key("globex", label="second")
    elsewhere = {}
    for step in ("rotate", "exposure"):  # each on a credential of its own
        wanted = {"organization": "globex", "provider": "raptor-comply", "label": step, "key": world.new_key("globex")}
        made = await world.call("POST", "/v1/credentials", status=201, json=wanted)
        elsewhere[step] = str(made["credential"])
    rotation, _, _ = await world.rotate(elsewhere["rotate"])
    reported = await world.call(
        "POST", f"/v1/credentials/{elsewhere['exposure']}/exposure", json={"found_by": "x", "where": "y"}
    )
    return job, {
        "organization": "globex",
        "rotation_id": rotation["id"],
        "exposure_id": reported["exposure"]["id"],
        "credential_id": credentials["globex"],
        "grant_id": foreign_grant,
        "lease_id": foreign_lease["lease"]["id"],
        "intake_id": foreign_intake,
    }


async def test_the_orm_sees_only_the_tenants_in_scope(world: World) -> None:
    await two_tenants(world)
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    async with world.services.parts.db.read(Scope.of(acme)) as session:
        for table in TENANT_TABLES:
            owners = set(await session.scalars(select(table.organization_id)))
            assert owners <= {acme}, table
        assert list(await session.scalars(select(OrganizationRow.slug))) == ["acme"]
        assert await session.scalar(select(func.count()).select_from(CredentialRow)) == 1


async def test_the_orm_writes_only_inside_the_scope(world: World) -> None:
    _, foreign = await two_tenants(world)
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    globex = (await world.call("GET", "/v1/organizations/globex"))["id"]
    # a bulk update reaches nothing of another tenant
    async with world.services.parts.db.write(Scope.of(acme)) as session:
        await session.execute(
            update(CredentialRow).where(CredentialRow.id == foreign["credential_id"]).values(state="x")
        )
    assert (await world.call("GET", f"/v1/credentials/{foreign['credential_id']}"))["state"] == "active"
    # a new row of another tenant is refused
    with pytest.raises(OutOfScope):
        async with world.services.parts.db.write(Scope.of(acme)) as session:
            session.add(
                CredentialRow(
                    id="crd_x",
                    organization_id=globex,
                    provider="p",
                    label="l",
                    state="active",
                    variables={},
                    created_at=1,
                )
            )


async def test_the_orm_deletes_only_inside_the_scope(world: World) -> None:
    _, foreign = await two_tenants(world)
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        theirs = await session.get_one(CredentialRow, foreign["credential_id"])
    with pytest.raises(OutOfScope):
        async with world.services.parts.db.write(Scope.of(acme)) as session:
            await session.delete(theirs)


async def test_row_level_security_stops_sql_that_bypasses_the_orm(
    prepared_postgres: Postgres, postgres_url: str
) -> None:
    db = Database(postgres_url)
    row = {"provider": "p", "label": "l", "state": "active", "variables": {}, "created_at": 1}
    credentials: Any = CredentialRow.__table__
    async with db.write(EVERY_TENANT) as session:
        for number in (1, 2):
            owned = {"id": nth("crd", number), "organization_id": nth("org", number)}
            await session.execute(insert(credentials).values(**owned, **row))
    async with db.read(Scope.of(ids.OrganizationId(nth("org")))) as session:
        # Core and plain text are not seen by the ORM's fence
        assert list(await session.scalars(select(credentials.c.id))) == [nth("crd")]
        assert list(await session.scalars(text("SELECT id FROM credentials"))) == [UUID(int=1)]
    theirs = {"id": nth("crd", 3), "organization_id": nth("org", 2)}
    with pytest.raises(DBAPIError, match="row-level security"):
        async with db.write(Scope.of(ids.OrganizationId(nth("org")))) as session:
            await session.execute(insert(credentials).values(**theirs, **row | {"label": "2"}))
    # a connection that names no tenant sees none
    async with db.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM credentials"))).scalar_one() == 0
    await db.close()


async def test_every_tenant_table_is_fenced_on_postgresql(postgres_url: str) -> None:
    db = Database(postgres_url)
    async with db.engine.connect() as connection:
        columns = await connection.execute(
            text("SELECT table_name FROM information_schema.columns WHERE column_name = 'organization_id'")
        )
        tables = {row[0] for row in columns} | {"organizations"}
        fenced = await connection.execute(
            text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
        )
        fences = {row[0] for row in fenced}
        assert tables == fences
        # and a month of the record can't be reached but by way of the whole
        policies = await connection.execute(text("SELECT tablename FROM pg_policies"))
        assert fences - {row[0] for row in policies} == {name for name in tables if is_month(name)}
    await db.close()


async def test_a_role_that_bypasses_row_level_security_may_not_serve(
    prepared_postgres: Postgres, postgres_url: str
) -> None:
    name = postgres_url.partition("@/")[2].partition("?")[0]
    db = Database(prepared_postgres.url(name, role="postgres"))
    with pytest.raises(schema.SchemaUnusable, match=r"BROKER_DATABASE_URL.*bypasses row-level security"):
        await schema.check(db)
    await db.close()


async def test_a_job_learns_of_no_customer_that_it_has_no_right_to(world: World) -> None:
    await world.key_for("acme")
    beta = await world.organization("beta")
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    for own in ("acme", lease["lease"]["organization"]):
        shown = await world.call("GET", f"/v1/leases?organization={own}", as_=await job.headers())
        assert [one["id"] for one in shown["items"]] == [lease["lease"]["id"]]
    answers: list[set[str]] = [set(), set(), set()]
    for other in ("beta", beta["id"], "nosuch", "org_" + "0" * 32):
        listed = await world.http.get(f"/v1/leases?organization={other}", headers=await job.headers())
        assert (listed.status_code, listed.json()) == (200, {"items": [], "next": None})
        called = await world.http.get(f"/proxy/{other}/raptor-comply/facilities", headers=await job.headers())
        assert called.status_code == 403
        for seen, answer in zip(answers, (listed, await job.ask(other), called), strict=True):
            seen.add(answer.text)
    assert [len(seen) for seen in answers] == [1, 1, 1], "one answer, whether there is such a customer or not"
    unknown = await world.call("GET", "/v1/leases?organization=nosuch", status=404)
    assert unknown["code"] == "unknown_organization", "operators are told of a misspelt one"


async def test_a_lease_works_at_its_own_tenant_and_provider_only(world: World) -> None:
    job, _ = await two_tenants(world)
    lease = await job.lease("acme")
    upstream_calls = len(world.upstream.requests)
    for organization in ("globex", "unknown-org"):
        refused = await world.proxied(lease, "/facilities", organization=organization)
        assert (refused.status_code, refused.json()["code"]) == (403, "lease_elsewhere")
    other = await world.http.get("/proxy/acme/github/user", headers={"Authorization": f"Bearer {lease['token']}"})
    assert other.json()["code"] == "lease_elsewhere"
    assert len(world.upstream.requests) == upstream_calls, "nothing reached upstream"
    assert (await world.events(kind="use.denied"))[0]["core"]["reason"] == "lease_elsewhere"


async def test_a_links_secret_opens_its_own_intake_only(world: World) -> None:
    await world.organization("acme")
    await world.organization("globex")
    _, secret = await world.request_key("acme")
    foreign, _ = await world.request_key("globex")
    crossed = await world.open(foreign, secret)
    unknown = await world.open(ids.new(ids.IntakeId), link_secret.new())
    assert (crossed.status_code, crossed.json()) == (unknown.status_code, unknown.json())
    assert crossed.json()["code"] == "link_invalid"


async def test_a_sealed_key_that_is_moved_to_another_tenant_does_not_open(world: World) -> None:
    # given somebody with write access to the database who copies globex's sealed key into acme's row
    job, foreign = await two_tenants(world)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        rows = {row.credential_id: row for row in await session.scalars(select(VersionRow))}
        source = rows[CredentialId(foreign["credential_id"])]
        target = next(row for row in rows.values() if row.credential_id != source.credential_id)
        target.sealed = source.sealed
    world.clock.forward(seconds=120)  # past every memory of the old row
    # when acme's job uses its key, then the broker refuses rather than mix two tenants
    lease = await job.lease("acme")
    answer = await world.proxied(lease, "/facilities")
    assert (answer.status_code, answer.json()["code"]) == (503, "keystore_unavailable")


async def test_scope_errors_never_reach_a_caller_in_detail() -> None:
    assert issubclass(OutOfScope, BrokerError)
    assert OutOfScope.status == 500
