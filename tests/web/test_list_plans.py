"""Every list, by each of its filters, reads as many rows for a page as the page has room for, however many there are.

The statements of all lists are noted, then run again on tables with thousands of rows more, most of which no page
shows.  PostgreSQL says how many rows each step of a plan read, SQLite how many steps of its machine a statement took.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from sqlalchemy import JSON, BigInteger, Boolean, LargeBinary, event, text

from broker.base import paging
from broker.base.db import EVERY_TENANT, Database, Scope, table
from broker.base.id_column import Id
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.formats.ids import OrganizationId
from broker.grants.tables import GrantRow
from broker.identity.federation.tables import TrustRow
from broker.identity.tables import WorkloadRow
from broker.incidents.tables import ExposureRow
from broker.intake.tables import IntakeRow
from broker.leaks.tables import FindingRow
from broker.leases.tables import LeaseRow
from broker.notifications.tables import DeliveryRow, NoticeRow, WebhookRow
from broker.organizations.tables import OrganizationRow
from tests.support.world import World

_FILLERS = 3_000
_LOOKED_AT = 20
# Far below the fillers; above what one step reads for a page of 2 of two customers, and what SQLite takes for it.
_MOST_ROWS = 200
_MOST_STEPS = 9_000
# The record has searches of its own.  The others are of what is in memory, of one credential, and of people: few.
_NOT_HERE = {
    "/v1/audit/events",
    "/v1/providers",
    "/v1/issuers",
    "/v1/credentials/{credential_id}/versions",
    "/v1/operators",
    "/v1/audit/holds",
    "/v1/sessions",
    "/v1/passkeys",
    "/v1/identities",
    "/v1/sign-in-providers",
    "/v1/reviews",  # by when each is due: tests/growth/test_plans.py
}
# What other tasks of the broker ask meanwhile, and which rows a session sees.
_NOT_LISTS = ("audit_", "set_config")
_VALUES: Mapping[str, list[str]] = {
    "organization": ["acme"],
    "workload": ["sync"],
    "provider": ["raptor-comply", "github"],
    "label": ["default", "nosuch"],
    "name": ["nosuch"],
    "ended": ["true", "false"],
    "waiting": ["true"],
    "credential": ["crd_" + "7" * 32],
    "issuer": ["github-actions", "nosuch"],
    "expiring_days": ["30"],
}
_PREFIXES = {
    "/v1/organizations": "org",
    "/v1/credentials": "crd",
    "/v1/keys": "crd",
    "/v1/workloads": "wkl",
    "/v1/trusts": "trs",
    "/v1/grants": "grt",
    "/v1/leases": "lse",
    "/v1/intakes": "int",
    "/v1/rotations": "rot",
    "/v1/exposures": "exp",
    "/v1/notices": "ntc",
    "/v1/notices/deliveries": "dlv",
    "/v1/webhooks": "whk",
    "/v1/leaks/findings": "fnd",
}


class Ran(NamedTuple):
    """A statement that a list ran: for whom, and what was asked."""

    asked: str
    scope: Scope
    sql: str
    values: Any


def _lists(world: World) -> Iterator[tuple[str, dict[str, str]]]:
    """Each list, without a filter and with each value of each of its filters."""
    schema = world.app.openapi()
    for path, operations in schema["paths"].items():
        asked = [each for each in operations.get("get", {}).get("parameters", []) if each["in"] == "query"]
        filters = {each["name"]: each["schema"] for each in asked}
        if "cursor" not in filters or path in _NOT_HERE:
            continue
        assert "order" in filters, f"{path} has no order"
        yield path, {}
        for name, described in filters.items():
            if name in {"cursor", "limit", "order"}:
                continue
            for value in _VALUES.get(name) or _choices(schema, described):
                yield path, {name: value}


def _choices(schema: dict[str, Any], described: dict[str, Any]) -> list[str]:
    (one,) = [each for each in described.get("anyOf", [described]) if each.get("type") != "null"]
    if "$ref" in one:
        one = schema["components"]["schemas"][one["$ref"].rsplit("/", 1)[-1]]
    assert "enum" in one, "a new filter: name values to try above"
    return list(one["enum"])


def _cursor(path: str, wanted: Mapping[str, str]) -> str:
    """A place before all fillers, and before or after the rest."""
    place = f"{_PREFIXES[path]}_{'7' * 32}"
    if path == "/v1/leases" or wanted.get("only") in {"due_soon", "overdue"}:
        place = f"1000.{place}"
    return base64.urlsafe_b64encode(place.encode()).decode()


@contextmanager
def _noting(db: Database, ran: list[Ran], asked: str, scope: Scope) -> Iterator[None]:
    def note(_connection: object, _cursor: object, sql: str, values: object, *_: object) -> None:
        if sql.lstrip().startswith(("SELECT", "WITH")) and not any(word in sql for word in _NOT_LISTS):
            ran.append(Ran(asked, scope, sql, values))

    event.listen(db.engine.sync_engine, "before_cursor_execute", note)
    yield
    event.remove(db.engine.sync_engine, "before_cursor_execute", note)


@pytest.fixture
async def limited(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], Scope]:
    """An account of two customers, and what it may see; they have something of most."""
    monkeypatch.setattr(paging, "LOOKED_AT", _LOOKED_AT)
    for slug in ("acme", "globex"):
        credential = await world.key_for(slug)
        await world.rotate(credential)
        await world.request_key(slug, label="second")
        await world.call("POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "x", "where": "y"})
    await world.key_for("initech")
    job = await world.job()
    for _ in range(3):
        await world.grant(job, "initech")
        await job.lease("initech")
    ids = [(await world.call("GET", f"/v1/organizations/{slug}"))["id"] for slug in ("acme", "initech")]
    headers = await world.operator("ann", "security", organizations=["acme", "initech"])
    return headers, Scope.of(*map(OrganizationId, ids))


async def _ran(world: World, limited: tuple[dict[str, str], Scope], only: str = "") -> list[Ran]:
    """What the lists ask of the database, for an admin and for the limited account: for a first and for a late page."""
    noted: list[Ran] = []
    for path, wanted in _lists(world):
        if only and path != only:
            continue
        for headers, scope in ((world.admin, EVERY_TENANT), limited):
            for order, cursor in (("oldest", ""), ("newest", _cursor(path, wanted))):
                asked = {**wanted, "order": order, "cursor": cursor, "limit": "2"}
                with _noting(world.services.parts.db, noted, f"{path} {asked}", scope):
                    await world.call("GET", path, as_=headers, params=asked)
    return list({(one.sql, str(one.values)): one for one in noted}.values())


def _value(column: Any, number: int) -> Any:
    if column.nullable:
        return None
    match column.type:
        case Boolean():
            return False
        case BigInteger():
            return 0
        case JSON():
            return {}
        case LargeBinary():
            return str(number).encode()
        case Id(prefix=prefix):
            return _id(prefix, number)
        case _:
            return f"x{number}"


def _id(prefix: str, number: int) -> str:
    return f"{prefix}_{0xF << 124 | number:032x}"


def _fillers(acme: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Rows that most filters pass over; a third of them are one customer's."""
    for at in range(_FILLERS):
        owner = acme if at % 3 == 0 else _id("org", 1)
        common = {"organization_id": owner, "provider": "raptor-comply", "label": f"l{at}", "credential_id": ""}
        credential, ended = _id("crd", at), at % 2 == 0
        yield OrganizationRow, {"id": _id("org", at), "state": "active"}
        yield CredentialRow, {**common, "id": credential, "state": "active", "due_at": 10**14 + at, "used_at": 1}
        yield VersionRow, {**common, "credential_id": credential, "number": 1, "state": "active", "health": "healthy"}
        yield (
            RotationRow,
            {**common, "id": _id("rot", at), "credential_id": credential, "state": "completed"} | {"ended_at": at},
        )
        yield WorkloadRow, {"id": _id("wkl", at), "state": "active"}
        yield (
            TrustRow,
            {"id": _id("trs", at), "workload_id": _id("wkl", at), "issuer": f"i{at}", "state": "active"},
        )
        yield GrantRow, {**common, "id": _id("grt", at), "workload_id": _id("wkl", at), "state": "active"}
        yield (
            LeaseRow,
            {
                **common,
                "id": _id("lse", at),
                "workload_id": _id("wkl", 1),
                "issued_at": 2000 + at,
                "expires_at": 10_000,
                "ended_at": 9_000 if ended else None,
                "end_reason": "lease.ended" if ended else "",
            },
        )
        yield IntakeRow, {**common, "id": _id("int", at), "state": "accepted" if ended else "cancelled"}
        yield NoticeRow, {**common, "id": _id("ntc", at), "kind": "key_withdrawn"}
        yield DeliveryRow, {"id": _id("dlv", at), "organization_id": owner, "state": "sent"}
        yield WebhookRow, {"id": _id("whk", at), "organization_id": owner, "state": "active"}
        yield ExposureRow, {**common, "id": _id("exp", at), "credential_id": credential}
        yield FindingRow, {**common, "id": _id("fnd", at), "credential_id": credential}


async def _fill(world: World) -> None:
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    rows: dict[Any, list[dict[str, Any]]] = {}
    for kind, given in _fillers(acme):
        held = rows.setdefault(kind, [])
        of_column = {column.name: _value(column, len(held)) for column in table(kind).columns}
        held.append({name: given.get(name, value) for name, value in of_column.items()})
    db = world.services.parts.db
    async with db.write(EVERY_TENANT) as session:
        for kind, values in rows.items():
            await session.execute(table(kind).insert(), values)
    if db.dialect == "postgresql":
        async with db.write(EVERY_TENANT) as session:
            for kind in rows:
                await session.execute(text(f"ANALYZE {table(kind).name}"))


def _read(plan: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """How many rows each scan of a plan read."""
    if "Relation Name" in plan:
        passed_over = sum(value for name, value in plan.items() if name.startswith("Rows Removed by"))
        where = f"{plan['Node Type']} of {plan['Relation Name']} by {plan.get('Index Name')}: {plan.get('Filter')}"
        yield where, (plan["Actual Rows"] + passed_over) * plan["Actual Loops"]
    for inner in plan.get("Plans", []):
        yield from _read(inner)


async def _too_many_on_postgresql(db: Database, one: Ran) -> str:
    async with db.read(one.scope) as session:
        await paging.go_by_index(session)
        connection = await session.connection()
        answer = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {one.sql}", one.values)
        plan = answer.scalar_one()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    return "; ".join(f"{where}: {rows:.0f} rows" for where, rows in _read(plan[0]["Plan"]) if rows > _MOST_ROWS)


async def _too_many_on_sqlite(db: Database, one: Ran) -> str:
    connection = sqlite3.connect(str(db.file))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {one.sql}", one.values)]
    taken: list[None] = []
    connection.set_progress_handler(lambda: taken.append(None), 100)
    connection.execute(one.sql, one.values).fetchall()
    connection.close()
    scans = [step for step in plan if step.startswith("SCAN ") and "USING" not in step and "VIRTUAL" not in step]
    read_whole = [
        step for step in scans if step.split()[1] in {each.name for each in CredentialRow.metadata.sorted_tables}
    ]
    if read_whole or len(taken) * 100 > _MOST_STEPS:
        return f"{len(taken) * 100} steps: {plan}"
    return ""


async def _too_many(world: World, ran: list[Ran]) -> list[str]:
    db = world.services.parts.db
    look = _too_many_on_postgresql if db.dialect == "postgresql" else _too_many_on_sqlite
    return [f"{one.asked}: {found}\n{one.sql}" for one in ran if (found := await look(db, one))]


async def test_each_list_by_each_filter_reads_what_a_page_has_room_for(
    world: World, limited: tuple[dict[str, str], Scope]
) -> None:
    ran = await _ran(world, limited)
    await _fill(world)
    assert await _too_many(world, ran) == []


async def test_a_filter_without_an_index_would_be_seen(world: World, limited: tuple[dict[str, str], Scope]) -> None:
    ran = await _ran(world, limited, "/v1/notices/deliveries")
    await _fill(world)
    assert await _too_many(world, ran) == []
    async with world.services.parts.db.engine.begin() as connection:
        await connection.execute(text("DROP INDEX ix_deliveries_state"))
    found = await _too_many(world, ran)
    assert found
    assert all("state" in each for each in found)
