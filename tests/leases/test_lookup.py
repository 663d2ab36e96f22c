"""What a lease is decided on: one round trip, one snapshot, one tenant, by index."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.log import AuditLog
from broker.base.db import EVERY_TENANT, Database, DatabaseUnavailable, OutOfScope, table
from broker.base.storable import Unstorable
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import OrganizationId, Reference, WorkloadId
from broker.grants.policy import AccessRequest, AccessTarget, Mode
from broker.grants.tables import GrantRow
from broker.identity.principal import Workload
from broker.leases.leasing import Leasing
from broker.leases.lookup import look_up
from broker.leases.lookup_sql import BODY, QUERY
from broker.leases.opening import Opening
from broker.leases.snapshot import AccessSnapshot, SnapshotCache
from broker.organizations.tables import OrganizationRow
from tests.support.databases import Postgres
from tests.support.ids import nth
from tests.support.trips import Trips, counted
from tests.support.waiting import eventually
from tests.support.world import Job, World, running_world, settings_for, upstream

TENANTS = {"organizations", "credentials", "credential_versions", "grants"}
NOBODYS = [AccessTarget(WorkloadId(nth("wkl")), Reference("no-such"), "raptor-comply", "default")]


def target(job: Job, slug: str, label: str = "default") -> AccessTarget:
    return AccessTarget(job.id, Reference(slug), "raptor-comply", label)


async def tenants(world: World) -> Job:
    """A job that may use acme's key and globex's, which are alike in everything."""
    job = await world.job()
    for slug in ("acme", "globex"):
        await world.key_for(slug)
    await world.grant(job, "acme", "globex")
    return job


@asynccontextmanager
async def a_broker_that_is_alone(directory: Path, url: str) -> AsyncIterator[tuple[Leasing, SnapshotCache, Job, Trips]]:
    """The leases of a broker whose database nothing else goes to, and its trips there."""
    async with (
        upstream() as (state, address),
        running_world(settings_for(directory, url, address), state, address) as w,
    ):
        job, parts = await tenants(w), w.services.parts
    async with counted(url) as (through, trips):
        db = Database(through)
        db.row_key, db.subjects = parts.keys.rows, parts.db.subjects
        audit = AuditLog(db, deadline=60)
        await audit.start()
        try:
            alone = dataclasses.replace(parts, db=db, audit=audit)
            snapshots = SnapshotCache(db, parts.clock)
            yield Leasing(alone, snapshots, Opening(alone, snapshots)), snapshots, job, trips
        finally:
            await audit.stop()
            await db.close()


async def test_a_lease_of_which_nothing_is_in_memory_costs_two_trips_more_than_one_of_which_everything_is(
    tmp_path: Path, database_url: str
) -> None:
    async with a_broker_that_is_alone(tmp_path, database_url) as (leasing, snapshots, job, trips):
        actor = Workload(job.id, "sync").actor("127.0.0.1", "")

        async def cost(slug: str) -> int:
            trips.since()
            await leasing.issue(actor, AccessRequest(target(job, slug), Mode.USE))
            return trips.since()

        await cost("acme")  # connections are made, statements prepared
        snapshots.forget()
        await cost("acme")
        # when
        warm, cold = await cost("acme"), await cost("globex")
        # then
        assert (warm, cold) == (1, 3), "one to decide on it, and one for the key of its event's personal part"
        # and to decide once more is one for whoever knows that something moved
        trips.since()
        await snapshots.get(target(job, "acme"), fresh=True)
        assert trips.since() == 1


async def test_a_target_of_which_nothing_is_there_costs_one_trip_as_well(tmp_path: Path, database_url: str) -> None:
    async with a_broker_that_is_alone(tmp_path, database_url) as (_, snapshots, job, trips):
        await snapshots.get(target(job, "acme"))
        trips.since()
        snapshot = await snapshots.get(target(job, "no-such"))
        assert trips.since() == 1
        assert (snapshot.organization_id, snapshot.workload_name, snapshot.key) == (None, "sync", None)


async def test_however_many_targets_are_asked_about_at_once_each_has_its_own(world: World) -> None:
    job = await tenants(world)
    asked = [target(job, slug) for slug in ("globex", "no-such", "acme")] * 2
    found = await look_up(world.services.parts.db, asked)
    assert [each.organization and each.organization["slug"] for each in found] == ["globex", None, "acme"] * 2
    for each in (found[0], found[2]):
        assert each.organization is not None
        assert each.credential is not None
        assert [row["organization_id"] for row in (*each.versions, *each.grants)] == [each.organization["id"]] * 2


async def test_a_row_is_read_as_the_orm_reads_it(world: World) -> None:
    rules = [{"methods": ["GET"], "paths": ["/facilities/**"]}]
    job = await tenants(world)
    await world.grant(job, "acme", rules=rules, rate={"uses": 5, "seconds": 60})
    (found,) = await look_up(world.services.parts.db, [target(job, "acme")])
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        for name, rows in (
            ("workloads", [found.workload]),
            ("organizations", [found.organization]),
            ("credentials", [found.credential]),
            ("credential_versions", found.versions),
            ("grants", found.grants),
        ):
            mapped = next(m for m in OrganizationRow.registry.mappers if m.local_table.description == name)
            for row in rows:
                assert row is not None
                key = tuple(row[column.name] for column in mapped.primary_key)
                orm: Any = await session.get_one(mapped.class_, key)
                read = {c.name: getattr(orm, mapped.get_property_by_column(c).key) for c in mapped.columns}
                assert row == read
    assert len(found.grants) == 2


async def test_the_databases_function_is_the_one_that_the_code_has(postgres_url: str) -> None:
    db = Database(postgres_url)
    async with db.read(EVERY_TENANT) as session:
        kept = await session.scalar(text("SELECT prosrc FROM pg_proc WHERE proname = 'access_of'"))
    await db.close()
    assert kept == BODY, "a change of it is a new migration"


async def test_row_level_security_fences_a_statement_that_names_no_tenant(
    world: World, prepared_postgres: Postgres
) -> None:
    db = world.services.parts.db
    if db.dialect == "sqlite":
        pytest.skip("row-level security is PostgreSQL's")
    job = await tenants(world)
    right = await look_up(db, [target(job, "acme")])
    # given a function that asks for every tenant's rows
    wrong = re.sub(r"(\w\.)?organization_id = tenant|o\.id = tenant|v\.credential_id = c\.id", "true", BODY)
    assert wrong.count("true") > 5
    async with db.write(EVERY_TENANT) as session:
        connection = await session.connection()
        await connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION access_of(targets json) RETURNS json LANGUAGE plpgsql STABLE "
            f"AS $access_of${wrong}$access_of$"
        )
    # then it has those of the tenant alone, all the same
    assert await look_up(db, [target(job, "acme")]) == right
    # while a role without the fence sees others
    asked = json.dumps([[job.id, None, "acme", "raptor-comply", "default"]])
    async with prepared_postgres.superuser(str(db.engine.url)) as unfenced:
        with pytest.raises(asyncpg.CardinalityViolationError):
            await unfenced.fetchval("SELECT access_of($1)", asked)


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("g.organization_id = t.tenant", "true"),
        ("v.credential_id = t.credential AND v.organization_id = t.tenant", "true"),
        ("c.organization_id = within.tenant", "c.organization_id <> within.tenant"),
        ("slug = named_slug", "slug <> named_slug"),
        ("g.workload_id = t.job AND", ""),
    ],
)
async def test_a_row_of_another_tenant_or_job_is_refused_whatever_the_statement_was(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, statement: str, wrong: str
) -> None:
    async with upstream() as (state, url), running_world(settings_for(tmp_path, sqlite_url, url), state, url) as world:
        job = await tenants(world)
        await world.grant(await world.job("another"), "acme")
        sound = QUERY["sqlite"]
        assert statement in sound
        changed = sound.replace(statement, wrong).replace(
            "c.id = t.credential AND c.organization_id = t.tenant", ("c.id = t.credential")
        )
        monkeypatch.setattr("broker.leases.lookup.QUERY", {"sqlite": changed})
        with pytest.raises(OutOfScope):
            await look_up(world.services.parts.db, [target(job, "acme")])


async def test_it_goes_by_indexes_on_postgresql_however_few_rows_there_are(postgres_url: str) -> None:
    """What costs nothing in a small table is what costs everything in a large one.

    Which index it is, PostgreSQL knows once it has looked at a table (autovacuum does), and then plans afresh.
    """
    db = Database(postgres_url)
    job = nth("wkl")
    async with db.write(EVERY_TENANT) as session:
        for number in range(200):
            await fill(session, number, job)
        await session.execute(text("ANALYZE"))
        asked = json.dumps([[job, None, f"n{number}", "p", "default"] for number in range(10)])
        answer = await session.scalar(text("SELECT access_of(CAST(:asked AS json))"), {"asked": asked})
        counts = await session.execute(
            text("SELECT relname, seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = ANY(:names)"),
            {"names": [*TENANTS, "workloads", "guards"]},
        )
        found = {name: (scans, fetched) for name, scans, fetched in counts}
    await db.close()
    assert [each["organization"]["slug"] for each in answer] == [f"n{number}" for number in range(10)]
    assert {name for name, (scans, _) in found.items() if scans} == set(), "no table is read from its beginning"
    # each of the ten has one row of each, which is looked at twice at most
    assert {name for name, (_, fetched) in found.items() if fetched > 20} == set()


async def fill(session: AsyncSession, number: int, job: str) -> None:
    """An organization with one credential and one grant of the job."""
    organization = OrganizationId(nth("org", number))
    owned: dict[str, Any] = {"organization_id": organization, "provider": "p", "state": "active"}
    rows: list[tuple[Any, dict[str, Any]]] = [
        (OrganizationRow, {"id": organization, "slug": f"n{number}", "name": "", "state": "active", "created_at": 1}),
        (CredentialRow, {"id": nth("crd", number), "label": "default", "variables": {}, "created_at": 1, **owned}),
        (
            VersionRow,
            {"credential_id": nth("crd", number), "number": 1, "fingerprint": "", "last4": "", "verdict": "", **owned}
            | {"probes": 0, "staged_at": 1},
        ),
        (
            GrantRow,
            {
                "id": nth("grt", number),
                "workload_id": job,
                "modes": [],
                "max_ttl": 1,
                "purpose_required": False,
                **owned,
            }
            | {"created_at": 1, "created_by": ""},
        ),
    ]
    for row, values in rows:
        await session.execute(insert(table(row)).values(values))


def test_it_goes_by_indexes_on_sqlite(sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.partition("///")[2])) as connection:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {QUERY['sqlite']}", ("[]",))]
    searched = [step for step in steps if step.startswith("SEARCH")]
    scanned = {step.split()[1] for step in steps if step.startswith("SCAN")}
    assert any("ix_grants_target (workload_id=? AND organization_id=?)" in step for step in searched)
    assert len(searched) >= 9
    assert scanned <= {"json_each", "asked", "within", "t", "CONSTANT", "g"}, steps


async def test_a_connection_that_was_lost_is_noticed_by_the_look_up_that_meets_it_and_costs_it_nothing_else(
    postgres_url: str, prepared_postgres: Postgres
) -> None:
    db = Database(postgres_url)
    await look_up(db, NOBODYS)
    assert await readers(prepared_postgres, db, "pg_terminate_backend(pid)") == [True]
    assert [found.organization for found in await look_up(db, NOBODYS)] == [None]
    await db.close()
    assert await readers(prepared_postgres, db, "pid") == []


async def test_nothing_is_read_from_a_server_that_takes_no_writes_any_more(
    postgres_url: str, prepared_postgres: Postgres
) -> None:
    """What it has may be out of date, for as long as its sessions last."""
    db = Database(postgres_url)

    async def unavailable() -> bool:
        try:
            await look_up(db, NOBODYS)
        except DatabaseUnavailable:
            return True
        return False

    async def available() -> bool:
        return not await unavailable()

    assert await available()
    try:
        # given a server that becomes a replica, whose sessions stay
        await prepared_postgres.admin("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        await eventually(unavailable)
        assert await readers(prepared_postgres, db, "pid") == [], "the next look-up finds whichever is there by then"
    finally:
        await prepared_postgres.admin("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    await eventually(available)
    await db.close()


async def test_a_look_up_waits_for_no_writer(db: Database) -> None:
    async with db.write(EVERY_TENANT) as session:
        await session.execute(update(OrganizationRow).values(name="another"))
        assert len(await look_up(db, NOBODYS)) == 1


async def test_a_target_that_the_database_refuses_is_refused_alone(world: World) -> None:
    if world.services.parts.db.dialect == "sqlite":
        pytest.skip("SQLite takes every text")
    job = await tenants(world)
    snapshots = world.services.snapshots
    asked = [target(job, "acme"), target(job, "acme", label="\0"), target(job, "globex")]
    one, refused, other = await asyncio.gather(*map(snapshots.get, asked), return_exceptions=True)
    assert isinstance(refused, Unstorable)
    assert [each.slug for each in (one, other) if isinstance(each, AccessSnapshot)] == ["acme", "globex"]


@pytest.mark.parametrize(
    "change",
    [
        "grants SET label = x'ff00'",
        "grants SET modes = '{'",
        "grants SET modes = x'00'",
        "grants SET purpose_required = 7",
        "grants SET max_ttl = 'long'",
        "grants SET row_mac = 'text'",
        "organizations SET name = x'ff'",
        "credentials SET variables = '[' || variables || ']'",
    ],
)
async def test_what_can_be_no_value_of_a_column_is_a_right_that_was_altered(
    tmp_path: Path, sqlite_url: str, change: str
) -> None:
    async with upstream() as (state, url), running_world(settings_for(tmp_path, sqlite_url, url), state, url) as world:
        job = await tenants(world)
        await job.headers()
        with closing(sqlite3.connect(sqlite_url.partition("///")[2])) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(f"UPDATE {change}")
            connection.commit()
        answer = await job.ask("acme")
        assert (answer.status_code, answer.json()["code"]) == (403, "rights_altered")
        assert [one["kind"] for one in await world.items("/v1/notices")].count("right_altered") == 1


async def readers(server: Postgres, db: Database, what: str) -> list[Any]:
    """Something of every connection that only reads, of this database."""
    asked = f"SELECT {what} FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE $1"
    async with server.superuser(str(db.engine.url)) as admin:
        rows = await admin.fetch(asked, "%reader")
    return [row[0] for row in rows]
