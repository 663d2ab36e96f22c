"""Months of the record go into signed files that verify, and only then out of the database; nothing is lost between."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import pytest
import sqlalchemy
from pydantic import SecretStr
from sqlalchemy import func, select, text

from broker import app as composition
from broker import archiving
from broker.app import Broker
from broker.archiving import Archived, Archiving
from broker.audit import archive_file, archives, detaching, heads, series, subjects
from broker.audit.archive_file import AnotherThere, ArchiveFile
from broker.audit.events import BROKER, Actor, Event
from broker.audit.months import month_of
from broker.audit.places import BLOCK
from broker.audit.retention import prune
from broker.audit.search import Filter, Recorded, search
from broker.audit.tables import ArchiveRow, EventRow, HeadRow, SeriesRow
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Conflict, Forbidden, Invalid
from broker.config import Settings
from broker.formats.archive import Manifest, Writing
from broker.formats.head import Head
from broker.formats.ids import OperatorId
from broker.formats.signed_note import Signer
from broker.identity import operators
from broker.siem import cursors
from tests.audit.test_retention import OVER, fill, here, lift_trigger
from tests.support.databases import Postgres
from tests.support.ids import nth
from tests.support.past import as_broker, count_uses, moment, record_in, record_many
from tests.support.world import settings_for

JUNE, JULY, AUGUST = 202506, 202507, 202508


@dataclass
class ArchivedBroker:
    """A broker whose record goes back to June 2025, and a folder for archives."""

    broker: Broker
    folder: Path
    events: dict[int, list[Event]]

    @property
    def db(self) -> Database:
        return self.broker.services.parts.db

    async def archive(self, before: int = AUGUST, folder: Path | None = None) -> list[Archived]:
        archiving_ = Archiving(self.broker, folder or self.folder, lambda _done, _total: None)
        return [one async for one in archiving_.before(before)]

    async def verified(self, month: int) -> Manifest:
        file = ArchiveFile.of(self.folder, month)
        manifest = file.manifest(self.broker.services.parts.keys.archives.verifier())
        assert list(file.verified(manifest))[-1] == manifest.span.count
        return manifest

    async def here(self) -> list[int]:
        async with self.db.read(EVERY_TENANT) as session:
            return list(await session.scalars(select(EventRow.idx).order_by(EventRow.idx)))

    async def size(self) -> int:
        async with self.db.read(EVERY_TENANT) as session:
            return await session.scalar(select(HeadRow.size)) or 0

    async def archived(self) -> list[int]:
        async with self.db.read(EVERY_TENANT) as session:
            return list(await session.scalars(select(ArchiveRow.month).order_by(ArchiveRow.month)))

    async def found(self, **wanted: Any) -> list[Recorded]:
        return await search(self.db, EVERY_TENANT, Filter(**wanted), 100)

    async def append(self) -> int:
        event = Event(kind="use.denied", time=now_ms(), actor=BROKER, decision="denied")
        return (await self.broker.services.parts.audit.append(event)).index


@asynccontextmanager
async def deployed(settings: Settings, folder: Path) -> AsyncIterator[ArchivedBroker]:
    async with composition.running(settings) as broker:
        yield ArchivedBroker(broker, folder, {})


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return settings_for(tmp_path, database_url, "http://127.0.0.1:1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "archives"
    made.mkdir()
    return made


@pytest.fixture
async def deployment(settings: Settings, db: Database, folder: Path) -> AsyncIterator[ArchivedBroker]:
    await as_broker(db, settings)
    events = {JUNE: await record_many(db, JUNE, 7), JULY: await record_many(db, JULY, 5)}
    async with deployed(settings, folder) as made:
        made.events = events
        await made.append()
        await count_uses(made.db)
        yield made


def lines(folder: Path, month: int) -> list[dict[str, Any]]:
    packed = (folder / f"record-{month}.ndjson.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(packed).splitlines()]


async def test_a_month_leaves_as_it_was_recorded_and_the_record_goes_on(deployment: ArchivedBroker) -> None:
    before = {one.index: one for one in await deployment.found()}
    done = await deployment.archive()
    assert [(one.month, one.first, one.events) for one in done] == [("2025-06", 0, 7), ("2025-07", 7, 5)]

    # every event is in its file, byte for byte, and the files are their owner's alone
    for month, first in ((JUNE, 0), (JULY, 7)):
        manifest = await deployment.verified(month)
        header, *events = lines(deployment.folder, month)
        assert (header["first"], header["count"], header["series"]) == (first, manifest.span.count, [[first, 0]])
        assert [json.loads(event["core"]) for event in events] == [before[event["index"]].core for event in events]
        assert [json.loads(event["core"])["id"] for event in events] == [event.id for event in deployment.events[month]]
    assert {path.stat().st_mode & 0o777 for path in deployment.folder.iterdir()} == {0o600}
    assert sorted(path.name for path in deployment.folder.iterdir()) == [
        "record-202506.ndjson.gz",
        "record-202506.note",
        "record-202507.ndjson.gz",
        "record-202507.note",
    ]

    # what is here is dense, from the first one behind them to the last, and says what was done
    assert await deployment.here() == list(range(12, await deployment.size()))
    kinds = [one.core["kind"] for one in await deployment.found()]
    assert kinds == ["use.denied", "record.archive_begun", "record.archived", "record.archived"]
    last = (await deployment.found())[-1]
    root = (await deployment.verified(JULY)).root.hex()
    assert last.core["reason"] == f"month=2025-07,first=7,count=5,root={root}"
    assert last.personal is not None
    assert last.personal["note"] == "record-202507.ndjson.gz"
    assert await deployment.append() == last.index + 1


async def test_nothing_is_done_where_nothing_is_over(deployment: ArchivedBroker) -> None:
    size = await deployment.size()
    assert await deployment.archive(JUNE) == []
    assert await deployment.size() == size
    assert len(await deployment.archive()) == 2
    size = await deployment.size()
    assert await deployment.archive() == []
    assert await deployment.size() == size


async def test_the_present_month_is_never_archived(deployment: ArchivedBroker) -> None:
    """However late a month is named: the last event always stays, as restores are found by it."""
    present = month_of(now_ms())
    with pytest.raises(Invalid, match="still to come"):
        await deployment.archive(present + 1 if present % 100 < 12 else present + 89)
    assert [one.month for one in await deployment.archive(present)] == ["2025-06", "2025-07"]
    assert (await deployment.here())[-1] == await deployment.size() - 1


async def test_a_month_without_an_event_since_is_over_all_the_same(
    settings: Settings, db: Database, folder: Path
) -> None:
    """What says that it is about to be archived is the first event of the present one."""
    await record_many(await as_broker(db, settings), JUNE, 3)
    await count_uses(db)
    async with deployed(settings, folder) as made:
        assert [one.month for one in await made.archive()] == ["2025-06"]
        assert await made.here() == [3, 4]


async def test_what_nobody_counted_yet_stays(settings: Settings, db: Database, folder: Path) -> None:
    await record_many(await as_broker(db, settings), JUNE, 3)
    async with deployed(settings, folder) as made:
        with pytest.raises(Conflict, match=r"not counted yet.*broker worker"):
            await made.archive()
        assert list(folder.iterdir()) == []
        await count_uses(made.db)
        assert len(await made.archive()) == 1


class ProcessEnds(BaseException):
    """The process ends here."""


def before(owner: object, name: str, nth: int = 1) -> Any:
    """Patch ``owner`` so that the process ends as it is about to do that for the n-th time."""
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def dying(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise ProcessEnds
        return real(*given, **named)

    return mock.patch.object(owner, name, dying)


STEPS = {
    "before anything": lambda: before(archiving, "record"),
    "begun": lambda: before(archives, "end_of"),
    "amid the file": lambda: before(Writing, "event", 4),
    "before it is read back": lambda: before(ArchiveFile, "draft_verified"),
    "before it is in place": lambda: before(ArchiveFile, "place"),
    "before its note": lambda: before(Signer, "sign"),
    "before the names are settled": lambda: before(archive_file, "_settle"),
    "before it is noted": lambda: before(archiving, "record", 2),
    "before it is verified again": lambda: before(ArchiveFile, "verified"),
    "before it is taken out": lambda: before(detaching, "take_out"),
    "before the second month is noted": lambda: before(archiving, "record", 3),
    "before the second month is taken out": lambda: before(detaching, "take_out", 2),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_ends_at_any_step_loses_nothing(deployment: ArchivedBroker, step: str) -> None:
    with STEPS[step](), pytest.raises(ProcessEnds):
        await deployment.archive()
    # whatever isn't here verifies in its file, and what is here begins right behind
    gone = (await deployment.here())[0]
    for month in await deployment.archived():
        await deployment.verified(month)
    assert gone in {0, 7}
    assert gone == 0 or JUNE in await deployment.archived()

    await deployment.archive()
    assert [(await deployment.verified(month)).span.first for month in (JUNE, JULY)] == [0, 7]
    assert await deployment.here() == list(range(12, await deployment.size()))
    assert await deployment.archived() == [JUNE, JULY]
    assert [one.core["reason"].split(",")[0] for one in await deployment.found(kind="record.archived")] == [
        "month=2025-06",
        "month=2025-07",
    ]
    assert not [path for path in deployment.folder.iterdir() if path.suffix == ".new"]


async def test_an_end_amid_the_removal_is_gone_on_with(
    deployment: ArchivedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite a page is gone; on PostgreSQL the partition is detached and not dropped, or about to be detached."""
    monkeypatch.setattr(detaching, "PAGE", 2)
    if deployment.db.dialect == "sqlite":
        with before(detaching, "_delete_page", 3), pytest.raises(ProcessEnds):
            await deployment.archive()
        assert (await deployment.here())[0] == 4
    else:
        executed = asyncpg.Connection.execute

        async def dying(self: asyncpg.Connection, query: str, *given: Any, **named: Any) -> Any:
            if query.startswith("DROP TABLE"):
                raise ProcessEnds
            return await executed(self, query, *given, **named)

        with mock.patch.object(asyncpg.Connection, "execute", dying), pytest.raises(ProcessEnds):
            await deployment.archive()
        assert (await deployment.here())[0] == 7
    assert [one.month for one in await deployment.archive()] == ["2025-06", "2025-07"]
    assert await deployment.here() == list(range(12, await deployment.size()))


async def test_a_detaching_that_was_cut_off_is_finished(deployment: ArchivedBroker) -> None:
    """A search that is under way holds it up; whoever gives up leaves it pending, and it is finalized later."""
    if deployment.db.dialect != "postgresql":
        pytest.skip("SQLite has no partitions")
    async with deployment.db.read(EVERY_TENANT) as session:
        await session.scalar(select(func.count()).select_from(EventRow))
        with mock.patch.object(detaching, "LONGEST_S", 0.5), pytest.raises(Conflict, match="such as a dump"):
            await deployment.archive()
        pending = text("SELECT count(*) FROM pg_inherits WHERE inhdetachpending")
        async with deployment.db.read(EVERY_TENANT) as other:
            assert await other.scalar(pending) == 1
        assert await deployment.append() == await deployment.size() - 1
    assert [one.month for one in await deployment.archive()] == ["2025-06", "2025-07"]
    assert await deployment.here() == list(range(12, await deployment.size()))


async def test_archives_are_made_while_uses_go_on(deployment: ArchivedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detaching, "PAGE", 1)
    indices: list[int] = []
    done = asyncio.Event()

    async def uses() -> None:
        while not done.is_set():
            indices.append(await deployment.append())

    async with asyncio.TaskGroup() as group:
        group.create_task(uses())
        assert len(await deployment.archive()) == 2
        done.set()
    assert indices == sorted(set(indices))
    assert len(indices) > 3
    assert await deployment.here() == list(range(12, await deployment.size()))


async def test_the_record_still_refuses_deletes_afterwards(deployment: ArchivedBroker) -> None:
    await deployment.archive()
    with pytest.raises(Exception, match="the record only grows"):
        async with deployment.db.write(EVERY_TENANT) as session:
            await session.execute(text("DELETE FROM audit_events"))


async def test_partitions_that_nothing_came_into_go_as_well(deployment: ArchivedBroker) -> None:
    if deployment.db.dialect != "postgresql":
        pytest.skip("SQLite has no partitions")
    months = text("SELECT relname FROM pg_class WHERE relname ~ '^audit_events_2025' AND relkind = 'r'")
    async with deployment.db.write(EVERY_TENANT) as session:
        await session.execute(text("CREATE TABLE audit_events_202505 (LIKE audit_events INCLUDING ALL)"))
        await session.execute(
            text("ALTER TABLE audit_events ATTACH PARTITION audit_events_202505 FOR VALUES IN (202505)")
        )
    await deployment.archive()
    async with deployment.db.read(EVERY_TENANT) as session:
        assert (await session.scalars(months)).all() == []


async def test_another_archive_is_never_written_over(deployment: ArchivedBroker) -> None:
    path = deployment.folder / "record-202506.ndjson.gz"
    path.write_bytes(gzip.compress(b"another\n"))
    with pytest.raises(AnotherThere, match="name another folder"):
        await deployment.archive()
    assert gzip.decompress(path.read_bytes()) == b"another\n"
    path.unlink()
    (deployment.folder / "record-202506.note").write_text("another\n")
    with pytest.raises(AnotherThere):
        await deployment.archive()
    assert (await deployment.here())[0] == 0
    assert await deployment.archived() == []


async def test_an_archive_that_is_damaged_or_not_there_is_no_reason_to_take_a_month_out(
    deployment: ArchivedBroker, tmp_path: Path
) -> None:
    with before(detaching, "take_out"), pytest.raises(ProcessEnds):
        await deployment.archive()
    with pytest.raises(Conflict, match=r"record-202506.ndjson.gz is not in .*elsewhere"):
        await deployment.archive(folder=tmp_path / "elsewhere")
    path = deployment.folder / "record-202506.ndjson.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(Conflict, match="damaged or cut off"):
        await deployment.archive()
    assert (await deployment.here())[0] == 0
    path.write_bytes(whole)
    assert len(await deployment.archive()) == 2


async def test_an_event_that_was_altered_is_found_and_its_month_stays(deployment: ArchivedBroker) -> None:
    if deployment.db.dialect == "sqlite":
        change = ["DROP TRIGGER audit_events_no_update", "UPDATE audit_events SET personal = x'7b7d' WHERE idx = 3"]
    else:
        change = [
            "ALTER TABLE audit_events DISABLE TRIGGER audit_events_only_grow",
            "UPDATE audit_events SET personal = '{}'::bytea WHERE idx = 3",
        ]
    async with deployment.db.write(EVERY_TENANT) as session:
        for statement in change:
            await session.execute(text(statement))
    with pytest.raises(Conflict, match="event 3 is not what was committed to"):
        await deployment.archive()
    assert (await deployment.here())[0] == 0


async def test_a_role_that_does_not_own_the_schema_is_told_so(
    deployment: ArchivedBroker, settings: Settings, prepared_postgres: Postgres
) -> None:
    if deployment.db.dialect != "postgresql":
        pytest.skip("SQLite has no roles")
    database = str(deployment.db.engine.url.database)
    await prepared_postgres.admin(
        "DO $$ BEGIN CREATE ROLE broker_reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    async with deployment.db.write(EVERY_TENANT) as session:
        await session.execute(
            text("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO broker_reader")
        )
    lesser = settings.model_copy(
        update={"database_url": SecretStr(prepared_postgres.url(database, role="broker_reader"))}
    )
    async with deployed(lesser, deployment.folder) as made:
        with pytest.raises(Forbidden, match="owns the schema"):
            await made.archive()
    assert list(deployment.folder.iterdir()) == []


async def test_a_spent_one_time_token_makes_no_second_account_once_the_first_is_archived(
    deployment: ArchivedBroker,
) -> None:
    """That there was one is on the record alone, if somebody deletes the account."""
    key = deployment.broker.services.parts.keys.token_hash
    await deployment.archive()
    async with deployment.db.write(EVERY_TENANT) as session:
        assert await operators.offer_bootstrap(session, key, now_ms()) is None


async def test_a_head_that_was_kept_before_a_month_was_archived_is_no_restore(deployment: ArchivedBroker) -> None:
    """A host that was off since is not refused; one that kept another history, or a longer one, is."""
    async with deployment.db.read(EVERY_TENANT) as session:
        present = await heads.head_of(session)
        entry = await session.scalar(select(EventRow.entry).where(EventRow.idx == 4))
    old = Head(0, 5, moment(JUNE, 4), entry or b"")
    other = Head(0, present.size, present.time, bytes(32))
    await deployment.archive()
    async with deployment.db.read(EVERY_TENANT) as session:
        present = await heads.head_of(session)
        assert present.entry
        assert await heads.continues(session, present, old)
        assert not await heads.continues(session, present, other)
        assert not await heads.continues(session, present, Head(0, present.size + 1, 0, b""))


async def test_an_archive_says_where_a_series_begins(settings: Settings, db: Database, folder: Path) -> None:
    await record_many(await as_broker(db, settings), JUNE, 4)
    began_at = moment(JUNE, 100)
    async with db.write(EVERY_TENANT) as session:
        session.add(SeriesRow(began_at=began_at, base=2, lost_to=3, since=began_at, confirmed_at=began_at))
    await count_uses(db)
    async with deployed(settings, folder) as made:
        await made.archive()
        await made.verified(JUNE)
        assert lines(folder, JUNE)[0]["series"] == [[0, 0], [2, began_at]]
        async with made.db.read(EVERY_TENANT) as session:
            assert (await series.known(session)).within(2, 4) == [(2, began_at)]


async def test_a_search_is_told_of_months_that_may_hold_what_it_wants(deployment: ArchivedBroker) -> None:
    async def elsewhere(**wanted: Any) -> tuple[int, list[str]] | None:
        async with deployment.db.read(EVERY_TENANT) as session:
            found = await archives.elsewhere(session, **wanted)
        return None if found is None else (found.first, list(found.months))

    assert await elsewhere() is None
    await deployment.archive()
    assert await elsewhere() == (12, ["2025-06", "2025-07"])
    assert await elsewhere(since=moment(JULY)) == (12, ["2025-07"])
    assert await elsewhere(until=moment(JULY)) == (12, ["2025-06"])
    assert await elsewhere(since=moment(JULY, 5)) is None
    assert await elsewhere(after=6) == (12, ["2025-07"])
    assert await elsewhere(after=11) is None


async def test_what_reads_and_removes_a_month_goes_by_keys(deployment: ArchivedBroker) -> None:
    """However long the record is, a page costs as much as its rows; on PostgreSQL it reads one partition."""
    asked: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM audit_events" in statement and statement.startswith("SELECT"):
            asked.append((statement, parameters))

    sqlalchemy.event.listen(deployment.db.engine.sync_engine, "before_cursor_execute", keep)
    with before(detaching, "take_out"), pytest.raises(ProcessEnds):
        await deployment.archive()
    sqlalchemy.event.remove(deployment.db.engine.sync_engine, "before_cursor_execute", keep)
    plans = {statement: await planned(deployment.db, statement, parameters) for statement, parameters in asked}
    assert len(plans) >= 2
    if deployment.db.dialect == "sqlite":
        delete = "DELETE FROM audit_events WHERE idx >= ? AND idx < ?"
        plans[delete] = await planned(deployment.db, delete, (0, 7))
        assert [(asked, plan) for asked, plan in plans.items() if "SCAN" in plan or "TEMP B-TREE" in plan] == []
    else:
        assert [(asked, plan) for asked, plan in plans.items() if "Seq Scan" in plan] == []
        (page,) = [plan for asked, plan in plans.items() if "salt_core" in asked]
        assert len(re.findall(r"Scan using audit_events_\d+_pkey", page)) == 1, page


async def planned(db: Database, statement: str, parameters: Any) -> str:
    """The plan of a statement, as one text; few rows alone are no reason to read a whole table."""
    async with db.write_connection() as connection:
        if db.dialect == "postgresql":
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        how = "EXPLAIN" if db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        rows = (await connection.exec_driver_sql(f"{how} {statement}", parameters)).all()
    return "\n".join(str(row[-1]) for row in rows)


async def test_a_month_that_a_sink_lacks_stays(deployment: ArchivedBroker) -> None:
    """So the record is in a SIEM before it leaves the database."""
    await cursors.begin(deployment.db, "siem", "ocsf", now_ms())
    await count_uses(deployment.db)
    with pytest.raises(Conflict, match="The sinks siem don't have all of 2025-06 yet"):
        await deployment.archive()
    assert await deployment.archived() == []
    await cursors.move(deployment.db, "siem", 7)
    with pytest.raises(Conflict, match="The sinks siem don't have all of 2025-07 yet"):
        await deployment.archive()
    await cursors.move(deployment.db, "siem", 12)
    await deployment.archive()
    assert await deployment.archived() == [JUNE, JULY]


async def test_archives_verify_whoever_was_erased_before_or_since(
    settings: Settings, db: Database, folder: Path
) -> None:
    await as_broker(db, settings)
    operator = OperatorId(nth("opr"))
    zoe = Actor("operator", operator, "zoe-the-person")
    for month in (JUNE, JULY):
        event = Event(kind="organization.renamed", time=moment(month), actor=zoe, note="for zoe-the-person")
        await record_in(db, month, event, Event(kind="use.denied", time=moment(month), actor=BROKER, decision="denied"))
    async with deployed(settings, folder) as made:
        await made.append()
        await count_uses(made.db)
        assert [one.month for one in await made.archive(JULY)] == ["2025-06"]
        async with made.db.write(EVERY_TENANT) as session:
            assert await subjects.erase(session, operator, now_ms())
            assert not await subjects.erase(session, operator, now_ms()), "which was done already"
        assert [one.month for one in await made.archive(AUGUST)] == ["2025-07"]
        for month in (JUNE, JULY):
            await made.verified(month)
            assert "the-person" not in str(lines(folder, month))


async def test_an_archive_has_the_entries_of_what_was_pruned_and_no_gap(
    settings: Settings, db: Database, folder: Path
) -> None:
    await fill(await as_broker(db, settings))
    await prune(db, "uses", 40, OVER)
    left = await here(db)
    async with deployed(settings, folder) as made:
        await made.append()
        await count_uses(made.db)
        (done,) = await made.archive(JULY)
        assert (done.month, done.first, done.events) == ("2025-06", 0, BLOCK + 100)
        assert (await made.verified(JUNE)).span.count == BLOCK + 100
        _, *events = lines(folder, JUNE)
        assert [event["index"] for event in events] == list(range(BLOCK + 100))
        assert {event["index"] for event in events if "core" in event} == left
        assert all(event.keys() == {"index", "entry"} for event in events if "core" not in event)


async def test_an_event_that_vanished_beside_pruned_ones_is_missed(
    settings: Settings, db: Database, folder: Path
) -> None:
    await fill(await as_broker(db, settings))
    await prune(db, "uses", 40, OVER)
    await lift_trigger(db)
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text("DELETE FROM audit_events WHERE idx = 9"))
    async with deployed(settings, folder) as made:
        await made.append()
        await count_uses(made.db)
        with pytest.raises(Conflict, match="event 9 is not there"):
            await made.archive(JULY)
