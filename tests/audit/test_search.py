"""The record is searched by an index of its own: exactly, and at a cost that doesn't grow with what is passed over."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import pytest
from sqlalchemy import Connection, delete, event, func, insert, select, update

from broker.audit import indexing, places
from broker.audit.events import KINDS
from broker.audit.indexing import follow, forget
from broker.audit.inside import Outcome, classes, inside
from broker.audit.months import month_of
from broker.audit.places import Indexed, each, pack, places_of, term, unpack
from broker.audit.search import Filter, search
from broker.audit.tables import BlockRow, EventRow, HeadRow, PlacesRow
from broker.base.clock import Millis, now_ms
from broker.base.db import EVERY_TENANT, Database, Scope, table
from broker.formats.ids import CredentialId, LeaseId, OperatorId, OrganizationId, RequestId, WorkloadId
from tests.support.databases import is_month
from tests.support.ids import named
from tests.support.searches import filters

START = 1_780_000_000_000
MONTH = month_of(now_ms())
KIND = ("use.authorized", "use.completed", "use.denied", "lease.issued", "leak.found")
GROUPS = ("use.", "leak.", "webhook.", "nothing.")
GROUPS_OF_OUTCOMES = {"succeeded": ("1xx", "2xx", "3xx"), "failed": ("4xx", "5xx", "none")}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few events are many blocks, spans and windows."""
    monkeypatch.setattr(places, "BLOCK", 128)
    monkeypatch.setattr(places, "SPAN", 4)
    monkeypatch.setattr("broker.audit.lookup.FIRST", 2)
    monkeypatch.setattr("broker.audit.lookup.FEW", 12)
    monkeypatch.setattr("broker.audit.lookup.MANY", 40)
    monkeypatch.setattr("broker.audit.search.REST", 100)
    monkeypatch.setattr("broker.audit.search.CANDIDATES", 40)
    monkeypatch.setattr("broker.audit.indexing.PAGE", 50)
    monkeypatch.setattr("broker.audit.indexing.FORGOTTEN", 100)


def some_event(idx: int, chance: random.Random) -> Indexed:
    """Hot and cold, often and rare; time goes on with the index, but not always."""
    organization = chance.choice(("", named("org", "hot"), named("org", "hot"), named("org", chance.randrange(40))))
    return Indexed(
        idx=idx,
        time=START + idx * 100 + chance.choice((0, 0, 0, chance.randrange(-3_000, 3_000), -idx * 50)),
        organization=organization,
        actor=chance.choice(("busy", "busy", f"actor_{chance.randrange(20)}")),
        credential=organization.replace("org", "crd"),
        lease=chance.choice(("", named("lse", idx // 7))),
        kind=chance.choices(KIND, (50, 50, 2, 5, 1))[0],
        decision="denied" if chance.random() < 0.02 else "allowed",
        workload=chance.choice(("", named("wkl", "hot"), named("wkl", idx % 20))),
        request=chance.choice(("", named("req", idx // 3))),
        outcome=chance.choices(("", "2xx", "4xx", "5xx", "none"), (50, 45, 2, 2, 1))[0],
    )


def core_of(one: Indexed) -> bytes:
    """The core of an event as far as a search looks into it."""
    core: dict[str, Any] = {"actor": {"id": one.actor}, "time": one.time}
    core |= {name: value for name in ("workload", "request") if (value := getattr(one, name))}
    if one.outcome:
        core["outcome"] = {"status": None if one.outcome == "none" else int(one.outcome[0]) * 100 + one.idx % 50}
    return json.dumps(core).encode()


async def put(db: Database, events: Sequence[Indexed]) -> None:
    rows = [
        {
            "idx": one.idx,
            "month": MONTH,
            "id": named("evt", one.idx),
            "time": one.time,
            "kind": one.kind,
            "decision": one.decision,
            "organization_id": one.organization,
            "actor_id": one.actor,
            "credential_id": one.credential,
            "lease_id": one.lease,
            "core": core_of(one),
            "personal": b"{}",
            "salt_core": b"",
            "personal_commitment": b"",
            "entry": b"",
        }
        for one in events
    ]
    async with db.write(EVERY_TENANT) as session:
        await session.execute(insert(table(EventRow)), rows)
        await session.execute(update(HeadRow).values(size=events[-1].idx + 1))


def matches(one: Indexed, scope: Scope, wanted: Filter) -> bool:
    """As one would write it down."""
    kind = wanted.kind.removesuffix("*")
    return (
        (scope.organizations is None or one.organization in scope.organizations)
        and wanted.organization in {"", one.organization}
        and wanted.actor in {"", one.actor}
        and wanted.credential in {"", one.credential}
        and wanted.lease in {"", one.lease}
        and wanted.workload in {"", one.workload}
        and (not wanted.operators or one.actor in wanted.operators)
        and wanted.decision in {"", one.decision}
        and (wanted.outcome in {"", one.outcome} or one.outcome in GROUPS_OF_OUTCOMES.get(wanted.outcome, ()))
        and wanted.request in {"", one.request}
        and (one.kind.startswith(kind) if kind in {"", *GROUPS} else one.kind == kind)
        and (wanted.since is None or one.time >= wanted.since)
        and (wanted.until is None or one.time < wanted.until)
        and (wanted.after is None or (one.idx < wanted.after if wanted.newest else one.idx > wanted.after))
    )


def some_filter(number: int, chance: random.Random) -> Filter:
    def perhaps(*values: Any) -> Any:
        return chance.choice(values) if chance.random() < 0.3 else type(values[0])()

    return Filter(
        organization=OrganizationId(perhaps(named("org", "hot"), named("org", "3"), named("org", "none"))),
        kind=perhaps(*KIND, *(f"{group}*" for group in GROUPS), "nothing.at_all"),
        actor=perhaps("busy", "actor_1", "nobody"),
        credential=CredentialId(perhaps(named("crd", "hot"), named("crd", "3"))),
        lease=LeaseId(perhaps(*(named("lse", chance.randrange(number // 7)) for _ in range(3)))),
        workload=WorkloadId(perhaps(named("wkl", "hot"), named("wkl", 3))),
        operators=perhaps((OperatorId("busy"),), (OperatorId("actor_1"), OperatorId("actor_2"))),
        decision=perhaps("denied", "allowed", "allowed"),
        outcome=perhaps("2xx", "4xx", "none", "succeeded", "failed", "3xx"),
        request=RequestId(perhaps(*(named("req", chance.randrange(number // 3)) for _ in range(3)))),
        since=chance.choice((None, None, Millis(START + chance.randrange(number * 100)))),
        until=chance.choice((None, None, Millis(START + chance.randrange(number * 100)))),
        after=chance.choice((None, None, chance.randrange(-1, number + 1))),
        newest=chance.random() < 0.5,
    )


@pytest.mark.usefixtures("small_blocks")
async def test_a_search_finds_what_comparing_each_event_finds(db: Database) -> None:
    """In blocks or in none yet, whatever order the times are in, page by page."""
    # given
    chance = random.Random(20)
    events = [some_event(idx, chance) for idx in range(3_300)]
    await put(db, events[:3_000])
    await asyncio.gather(follow(db), follow(db))  # two workers may
    await put(db, events[3_000:])
    scopes = [EVERY_TENANT] * 4 + [
        Scope.of(*map(OrganizationId, names))
        for names in (
            [named("org", "hot"), named("org", "1")],
            [named("org", number) for number in range(30)],
            [named("org", "none")],
            [],
        )
    ]
    found_some = 0
    for _ in range(400):
        scope, wanted, limit = chance.choice(scopes), some_filter(len(events), chance), chance.choice((1, 7, 500))
        expected = [one.idx for one in events if matches(one, scope, wanted)]
        # when
        found = await search(db, scope, wanted, limit)
        # then
        expected = sorted(expected, reverse=wanted.newest)
        assert [one.index for one in found] == expected[:limit], (scope, wanted, limit)
        found_some += bool(found)
    assert found_some > 50


@pytest.mark.usefixtures("small_blocks")
async def test_two_ids_that_share_a_term_are_told_apart(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often that happens, as here with all of them."""
    monkeypatch.setattr(places, "term", lambda field, _: -2 if field in {"kind", "decision"} else 1)
    monkeypatch.setattr("broker.audit.search.term", places.term)
    chance = random.Random(21)
    events = [some_event(idx, chance) for idx in range(600)]
    await put(db, events)
    await follow(db)
    for wanted in (
        Filter(organization=OrganizationId(named("org", "hot")), actor="actor_1", newest=True),
        Filter(lease=LeaseId(named("lse", "3")), decision="denied"),
        Filter(credential=CredentialId(named("crd", "hot")), kind="use.*"),
        Filter(workload=WorkloadId(named("wkl", "hot")), outcome="failed"),
        Filter(request=RequestId(named("req", 7)), newest=True),
    ):
        found = await search(db, EVERY_TENANT, wanted, 1_000)
        expected = sorted(one.idx for one in events if matches(one, EVERY_TENANT, wanted))
        assert sorted(one.index for one in found) == expected


@pytest.mark.usefixtures("small_blocks")
async def test_only_full_blocks_are_indexed_and_each_once(db: Database) -> None:
    chance = random.Random(22)
    events = [some_event(idx, chance) for idx in range(300)]
    await put(db, events[:127])
    await follow(db)
    assert await indexed(db) == []
    await put(db, events[127:])
    await follow(db)
    await follow(db)
    assert await indexed(db) == [0, 1]


@pytest.mark.usefixtures("small_blocks")
async def test_an_index_that_was_emptied_is_made_again(db: Database) -> None:
    """It begins with the first events that are there: earlier ones may be archived."""
    chance = random.Random(25)
    await put(db, [some_event(idx, chance) for idx in range(300, 600)])
    await follow(db)
    assert await indexed(db) == [2, 3]
    async with db.write(EVERY_TENANT) as session:
        await session.execute(delete(PlacesRow))
        await session.execute(delete(BlockRow))
    await follow(db)
    assert await indexed(db) == [2, 3]


async def indexed(db: Database) -> list[int]:
    async with db.read(EVERY_TENANT) as session:
        return sorted(await session.scalars(select(BlockRow.block)))


@pytest.mark.usefixtures("small_blocks")
async def test_one_turn_indexes_so_many_blocks_at_most(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "TURN", 2)
    chance = random.Random(23)
    await put(db, [some_event(idx, chance) for idx in range(400)])
    await follow(db)
    assert await indexed(db) == [0, 1]
    await follow(db)
    assert await indexed(db) == [0, 1, 2]


@pytest.mark.usefixtures("small_blocks")
async def test_spans_of_what_was_archived_are_forgotten(db: Database) -> None:
    chance = random.Random(24)
    events = [some_event(idx, chance) for idx in range(2_000)]
    await put(db, events)
    await follow(db)
    await forget(db, 1_100)  # which is within the third span of four blocks
    assert await indexed(db) == list(range(8, 15))
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(func.min(PlacesRow.span))) == 2
    wanted = Filter(organization=OrganizationId(named("org", "hot")), decision="denied", newest=True)
    found = [one.index for one in await search(db, EVERY_TENANT, wanted, 1_000)]
    assert found == [one.idx for one in reversed(events) if one.idx >= 1_024 and matches(one, EVERY_TENANT, wanted)]


def test_an_outcome_is_told_by_the_class_of_its_status() -> None:
    for status, told in (
        (101, "1xx"),
        (204, "2xx"),
        (304, "3xx"),
        (429, "4xx"),
        (503, "5xx"),
        (None, "none"),
        (999, "none"),
    ):
        core = json.dumps({"kind": "use.completed", "outcome": {"bytes_in": 0, "status": status}}).encode()
        assert inside(core).outcome == told, status
    assert inside(b'{"kind":"use.denied","workload":"wkl_1","request":"req_1"}') == ("wkl_1", "req_1", "")


def test_every_word_for_outcomes_stands_for_classes_that_are_told() -> None:
    every = {"1xx", "2xx", "3xx", "4xx", "5xx", "none"}
    assert set().union(*(classes(one) for one in get_args(Outcome))) == every
    assert {"succeeded", "failed"} < set(get_args(Outcome))
    assert classes("succeeded") | classes("failed") == every
    assert not classes("succeeded") & classes("failed")


def test_places_are_packed_as_a_list_or_as_bits() -> None:
    for some in ([], [0], [8_191], [*range(64)], [*range(0, 8_192, 100)], [*range(8_192)]):
        packed = pack(some)
        assert len(packed) == (2 * len(some) if len(some) <= 64 else 1_024)
        assert list(each(unpack(packed), newest=False)) == some
        assert list(each(unpack(packed), newest=True)) == some[::-1]


def test_every_kind_and_decision_has_a_term_of_its_own_and_shares_it_with_no_id() -> None:
    closed = {term("kind", kind) for kind in KINDS} | {term("decision", "denied")}
    assert len(closed) == len(KINDS) + 1
    assert max(closed) < 0 <= min(term("lease", named("lse", number)) for number in range(1_000))


def test_empty_values_and_what_is_allowed_are_in_no_index() -> None:
    nothing = Indexed(5, START, "", "busy", "", "", "use.denied", "allowed", "", "", "")
    assert places_of([nothing]).keys() == {term("actor", "busy"), term("kind", "use.denied")}


# Plans

NUMBER = 13_000
VALUES: dict[str, dict[str, Any]] = {
    "organization": {"hot": named("org", "hot"), "cold": named("org", "7")},
    "kind": {"usual": "use.authorized", "rare": "leak.found", "none": "webhook.created", "group": "use.*"},
    "actor": {"busy": "busy", "never with the hot organization": "apart"},
    "credential": {"hot": named("crd", "hot"), "cold": named("crd", "7")},
    "lease": {"one": named("lse", "77")},
    "workload": {"hot": named("wkl", "hot"), "cold": named("wkl", "7")},
    "operators": {"one": ("actor_1",), "of one name": ("actor_1", "actor_2")},
    "decision": {"denied": "denied", "allowed": "allowed"},
    "outcome": {"usual": "2xx", "rare": "none", "failed": "failed"},
    "request": {"one": named("req", "77")},
    "since": {"half": START + NUMBER * 50, "the end": START + NUMBER * 99},
    "until": {"half": START + NUMBER * 50, "the beginning": START + NUMBER},
}


def planned_event(idx: int) -> Indexed:
    organization = named("org", "hot") if idx % 10 == 0 else named("org", idx % 977)
    return Indexed(
        idx=idx,
        time=START + idx * 100 + idx % 7 * 150,
        organization=organization,
        actor="busy" if idx % 2 == 0 else "apart" if idx % 20 == 1 else f"actor_{idx % 101}",
        credential=organization.replace("org", "crd"),
        lease=named("lse", idx // 6),
        kind="leak.found" if idx % 4_999 == 1 else KIND[idx // 2 % 2],
        decision="denied" if idx % 500 == 1 else "allowed",
        workload=named("wkl", "hot") if idx % 3 else named("wkl", idx % 101),
        request=named("req", idx // 2),
        outcome=("", "none" if idx % 4_998 == 3 else "4xx" if idx % 200 == 3 else "2xx")[idx % 2],
    )


@pytest.fixture
async def filled(db: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A record of many blocks, which the database knows well."""
    monkeypatch.setattr(places, "BLOCK", 128)
    monkeypatch.setattr("broker.audit.indexing.TURN", 1_000)
    for start in range(0, NUMBER, 6_500):
        await put(db, [planned_event(idx) for idx in range(start, start + 6_500)])
    await follow(db)
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("ANALYZE")
    return db


@contextmanager
def statements(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is asked meanwhile about events and their index."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Connection, _cursor: object, sql: str, parameters: Any, _context: object, many: bool) -> None:
        if "audit_" in sql and not many:
            asked.append((sql, parameters))

    event.listen(db.engine.sync_engine, "before_cursor_execute", note)
    yield asked
    event.remove(db.engine.sync_engine, "before_cursor_execute", note)


async def test_every_filter_and_pair_takes_few_statements_that_go_by_keys_alone(filled: Database) -> None:
    """Of blocks, which may be read whole, there are thousands of times fewer than events."""
    distinct: dict[str, tuple[str, Any]] = {}
    for name, scope, wanted in every_search():
        with statements(filled) as asked:
            await search(filled, scope, wanted, 101)
        assert len(asked) <= 20, name
        distinct |= {sql: (name, parameters) for sql, parameters in asked}
    async with filled.engine.connect() as connection:
        if filled.dialect == "postgresql":
            await connection.exec_driver_sql("SELECT set_config('broker.tenants', '*', false)")
        for sql, (name, parameters) in distinct.items():
            plan = (await connection.exec_driver_sql(f"{EXPLAIN[filled.dialect]} {sql}", parameters)).all()
            read = set(read_whole(filled.dialect, plan))
            read -= {name for name in read if is_month(name) and name != f"audit_events_{MONTH}"}  # which is empty
            assert read <= {"audit_blocks", "audit_head", "audit_series", "audit_subjects"}, f"{name}: {sql}\n{plan}"


EXPLAIN = {"postgresql": "EXPLAIN (FORMAT JSON)", "sqlite": "EXPLAIN QUERY PLAN"}


def read_whole(dialect: str, plan: Sequence[Any]) -> Iterator[str]:
    """The tables of the record that are read from end to end, or an index of them."""
    if dialect == "sqlite":
        yield from (step[-1].split()[1] for step in plan if step[-1].startswith("SCAN audit_"))
        return
    nodes = [one["Plan"] for one in json.loads(json.dumps(plan[0][0]))]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Relation Name" in node and node["Node Type"] != "Bitmap Heap Scan" and "Index Cond" not in node:
            yield node["Relation Name"]


def every_search() -> Iterator[tuple[str, Scope, Filter]]:
    """Every filter and pair, and every filter in the eyes of somebody who sees some organizations only."""
    limited = Scope.of(
        *(OrganizationId(named("org", number)) for number in range(20)), OrganizationId(named("org", "hot"))
    )
    for name, wanted in filters(VALUES):
        yield name, EVERY_TENANT, wanted
        if " + " not in name:
            yield f"limited: {name}", limited, wanted


async def test_what_is_often_there_but_never_together_is_told_without_reading_events(filled: Database) -> None:
    """Nor is the record asked for what it never had, as ``keystore migrate`` does."""
    since = Filter(organization=OrganizationId(named("org", "hot")), actor="apart", since=Millis(START + 1))
    for wanted in (
        since,
        Filter(kind="use.*", credential=CredentialId(named("crd", "none"))),
        Filter(kind="keystore.*"),
    ):
        with statements(filled) as asked:
            assert await search(filled, EVERY_TENANT, wanted, 101) == []
        assert sum("FROM audit_events" in sql for sql, _ in asked) == 1, "of the events that are in no block yet"
        assert len(asked) <= 16, "windows of many blocks"


async def test_events_that_were_archived_before_they_were_indexed_keep_no_others_out(
    db: Database, small_blocks: None
) -> None:
    await put(db, [some_event(idx, random.Random(idx)) for idx in range(300, 600)])
    async with db.write(EVERY_TENANT) as session:
        await session.execute(insert(table(BlockRow)), [{"block": 0, "earliest": START, "latest": START}])
    await follow(db)
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(func.max(BlockRow.block))) == 3
    assert len(await search(db, EVERY_TENANT, Filter(), 1_000)) == 300
