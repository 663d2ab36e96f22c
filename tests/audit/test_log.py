"""The commit point: what append promises, on both databases."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from broker.audit import log as log_module
from broker.audit.batch import Batch, Decided
from broker.audit.events import BROKER, Event
from broker.audit.guards import epochs_of, raise_epoch
from broker.audit.log import AuditLog, GuardMoved, RowRefused
from broker.audit.quota import Exhausted, Rate, Total
from broker.audit.record import record
from broker.audit.search import Filter, search
from broker.audit.subjects import Part, subjects_of
from broker.audit.tables import EventRow, HeadRow, QuotaRow
from broker.audit.unavailable import AuditUnavailable
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database, table
from broker.formats.audit_event import entry_of
from broker.leases.tables import UseRow
from tests.support.ids import nth
from tests.support.waiting import eventually

INSERT_USE = insert(table(UseRow))


def event(kind: str = "audit.read", **fields: Any) -> Event:
    return Event(kind=kind, time=now_ms(), **{"actor": BROKER, **fields})


def use_row(use: str) -> dict[str, Any]:
    return {
        "id": use,
        "organization_id": nth("org"),
        "lease_id": nth("lse"),
        "credential_id": nth("crd"),
        "version": 1,
        "workload_id": nth("wkl"),
        "method": "GET",
        "authorized_at": 1,
        "grant_id": "",
    }


async def indices(db: Database) -> list[int]:
    async with db.read(EVERY_TENANT) as session:
        return list(await session.scalars(select(EventRow.idx).order_by(EventRow.idx)))


async def test_an_appended_event_is_durable_with_a_dense_index(db: Database, log: AuditLog) -> None:
    # when many events are appended at once
    receipts = await asyncio.gather(*(log.append(event()) for _ in range(300)))
    # then each has its own index, without a gap, and the head agrees
    assert sorted(receipt.index for receipt in receipts) == list(range(300)) == await indices(db)
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(HeadRow.size)) == 300


async def test_concurrent_events_share_commits(log: AuditLog) -> None:
    await asyncio.gather(*(log.append(event()) for _ in range(300)))
    assert 0 < log.batches < 30


async def test_the_stored_bytes_are_what_the_commitment_commits_to(db: Database, log: AuditLog) -> None:
    receipt = await log.append(event(note="a path of a person"))
    async with db.read(EVERY_TENANT) as session:
        row = await session.get_one(EventRow, receipt.index)
        (opened,) = await subjects_of(session).opened(
            session, [Part(json.loads(row.core), row.personal, row.personal_commitment)]
        )
    assert opened.personal is not None
    assert opened.salt is not None
    assert entry_of(row.core, row.salt_core, opened.personal, opened.salt) == row.entry == receipt.entry
    assert b"a path of a person" in opened.personal
    assert b"a path of a person" not in row.core + row.personal


async def test_rows_of_an_event_are_written_in_its_transaction(db: Database, log: AuditLog) -> None:
    await log.append(event("use.authorized"), writes=[(INSERT_USE, use_row(nth("use")))])
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(UseRow.id)) == nth("use")


async def test_a_moved_guard_refuses_the_event_and_its_rows(db: Database, log: AuditLog) -> None:
    # given a decision that relied on epoch 0, and a revocation since
    async with db.write(EVERY_TENANT) as session:
        await raise_epoch(session, nth("grt"))
        await record(session, event("grant.revoked"))
    # when it is to be committed, then nothing is written
    with pytest.raises(GuardMoved):
        await log.append(event("use.authorized"), {nth("grt"): 0}, [(INSERT_USE, use_row(nth("use")))])
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(UseRow.id)) is None
    assert await indices(db) == [0]


async def test_an_epoch_never_comes_round_again(db: Database, log: AuditLog) -> None:
    """Whoever puts a database back takes epochs back; what was decided in the history that is gone stays void."""

    async def raised() -> int:
        async with db.write(EVERY_TENANT) as session:
            await raise_epoch(session, nth("grt"))
            await record(session, event("grant.revoked"))
        async with db.read(EVERY_TENANT) as session:
            return (await epochs_of(session, [nth("grt")]))[nth("grt")]

    seen = {await raised() for _ in range(3)}
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text("DELETE FROM guards"))
    seen |= {await raised() for _ in range(3)}
    await log.append(event("lease.ended"), raises=[nth("grt")])
    async with db.read(EVERY_TENANT) as session:
        seen |= set((await epochs_of(session, [nth("grt")])).values())
    assert len(seen) == 7
    assert 0 not in seen, "which stands for an id that was never raised"


async def test_what_one_event_of_a_batch_raises_refuses_the_later_ones(log: AuditLog) -> None:
    # given an end and a use of the same lease that meet in one batch
    ended = asyncio.create_task(log.append(event("lease.ended"), {nth("lse"): 0}, raises=[nth("lse")]))
    used = asyncio.create_task(log.append(event("use.authorized"), {nth("lse"): 0}))
    await ended
    # then the use is not recorded behind the end
    with pytest.raises(GuardMoved):
        await used


async def test_a_revocation_that_commits_while_a_batch_waits_for_the_head_is_seen(db: Database, log: AuditLog) -> None:
    """The interleaving that a check in the head-locking statement itself would miss: its snapshot is older."""
    async with db.write(EVERY_TENANT) as session:
        # given a revocation that holds the head and has not committed
        await raise_epoch(session, nth("crd"))
        await record(session, event("credential.revoked"))
        # when a use that relied on the state before arrives and waits for the head
        used = asyncio.create_task(log.append(event("use.authorized"), {nth("crd"): 0}))
        await waits_for_the_head(db)
        assert not used.done()
    # then, the revocation committed, the use is refused
    with pytest.raises(GuardMoved):
        await used
    assert await indices(db) == [0]


async def waits_for_the_head(db: Database) -> None:
    async def waiting() -> Any:
        if (writer := db.writer) is not None:  # SQLite: this process's writer lock, taken before its snapshot
            return writer.waiting(record=True)
        async with db.read(EVERY_TENANT) as session:
            return await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await eventually(waiting)


async def test_an_event_that_is_not_durable_in_time_is_a_no(db: Database) -> None:
    # given a head that somebody holds for longer than the deadline
    log = AuditLog(db, deadline=0.3)
    await log.start()
    async with db.write(EVERY_TENANT) as session:
        await record(session, event())
        # then the answer is no, not late
        with pytest.raises(AuditUnavailable):
            await log.append(event("lease.issued"))
    await log.stop()


async def test_a_full_queue_is_a_no(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "QUEUE_MAX", 2)
    log = AuditLog(db, deadline=0.2)  # not started: nothing drains it
    waiting = [asyncio.create_task(log.append(event())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(AuditUnavailable, match="Too many"):
        await log.append(event())
    assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [AuditUnavailable] * 2


async def test_what_is_being_written_at_the_end_is_written(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(db, deadline=20)
    await log.start()
    commit, begun, goes_on = log.commits.commit, asyncio.Event(), asyncio.Event()

    async def slow(batch: Batch) -> Decided:
        begun.set()
        await goes_on.wait()
        return await commit(batch)

    monkeypatch.setattr(log.commits, "commit", slow)
    waiting = asyncio.create_task(log.append(event()))
    await begun.wait()
    stopping = asyncio.create_task(log.stop())
    await asyncio.sleep(0)
    goes_on.set()
    await stopping
    assert (await waiting).index == 0


async def test_one_read_is_one_snapshot(db: Database) -> None:
    async with db.read(EVERY_TENANT) as session:
        before = await epochs_of(session, [nth("grt")])
        async with db.write(EVERY_TENANT) as revoking:
            await raise_epoch(revoking, nth("grt"))
            await record(revoking, event("grant.revoked"))
        assert await epochs_of(session, [nth("grt")]) == before
    async with db.read(EVERY_TENANT) as session:
        assert await epochs_of(session, [nth("grt")]) != before


async def test_an_event_takes_from_all_its_allowances_or_from_none(db: Database, log: AuditLog) -> None:
    rate, used_up = Rate("grt_1/rate", 10, 60_000), Total("grt_1/uses", 0)
    with pytest.raises(Exhausted):
        await log.append(event("use.authorized"), quotas=[rate, used_up])
    async with db.read(EVERY_TENANT) as session:
        assert await session.get(QuotaRow, rate.id) is None


async def test_whoever_gave_up_before_the_batch_is_not_recorded(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(db)
    with monkeypatch.context() as patch:
        patch.setattr(log, "deadline", 0.05)
        with pytest.raises(AuditUnavailable):
            await log.append(event("lease.issued"))
    await log.start()
    await log.append(event())
    assert await indices(db) == [0]
    await log.stop()


async def test_a_bad_row_is_refused_alone(db: Database, log: AuditLog) -> None:
    await log.append(event("use.authorized"), writes=[(INSERT_USE, use_row(nth("use")))])
    # when events of one batch bring a row that exists already, and good ones
    outcomes = await asyncio.gather(
        log.append(event("use.authorized"), writes=[(INSERT_USE, use_row(nth("use")))]),
        *(log.append(event("use.authorized"), writes=[(INSERT_USE, use_row(nth("use", n)))]) for n in range(2, 6)),
        return_exceptions=True,
    )
    # then the good ones stand and the index stays dense
    assert isinstance(outcomes[0], RowRefused)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1:])
    assert await indices(db) == list(range(5))


async def test_a_commit_whose_answer_is_lost_happens_once(
    db: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a connection that is lost just after the first COMMIT was carried out
    lost: list[bool] = []
    original = log.commits.commit

    async def losing(batch: Batch) -> Decided:
        decided = await original(batch)
        if not lost:
            lost.append(True)
            raise ConnectionResetError
        return decided

    monkeypatch.setattr(log.commits, "commit", losing)
    # when an event is appended, then it is acknowledged and stands once
    receipt = await log.append(event("lease.issued"), writes=[(INSERT_USE, use_row(nth("use")))])
    assert lost
    assert receipt.index == 0
    assert await indices(db) == [0]


async def test_a_commit_that_did_not_happen_is_repeated(
    db: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[bool] = []
    original = log.commits.commit

    async def losing(batch: Batch) -> Decided:
        if not lost:
            lost.append(True)
            raise ConnectionResetError
        return await original(batch)

    monkeypatch.setattr(log.commits, "commit", losing)
    assert (await log.append(event())).index == 0
    assert await indices(db) == [0]


async def test_the_record_only_grows(db: Database, log: AuditLog) -> None:
    await log.append(event())
    for change in ("UPDATE audit_events SET kind = 'x'", "DELETE FROM audit_events"):
        with pytest.raises(DBAPIError, match="only grows"):
            async with db.write(EVERY_TENANT) as session:
                await session.execute(text(change))


async def test_an_event_outside_the_catalogue_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="catalogue"):
        event("lease.borrowed")


async def test_control_characters_do_not_reach_the_record(db: Database, log: AuditLog) -> None:
    await log.append(event(note="one\ntwo\x1b[31m\ud800"))
    found = await search(db, EVERY_TENANT, Filter(), 10)
    assert found[0].personal is not None
    assert found[0].personal["note"] == "one\ufffdtwo\ufffd[31m\ufffd"


async def test_search_finds_by_every_filter(db: Database, log: AuditLog) -> None:
    await log.append(event("lease.issued", organization=nth("org"), credential=nth("crd"), lease=nth("lse")))
    await log.append(event("lease.denied", organization=nth("org", 2), decision="denied"))
    await log.append(event("grant.created", organization=nth("org", 2)))

    async def kinds(**wanted: Any) -> list[str]:
        return [found.core["kind"] for found in await search(db, EVERY_TENANT, Filter(**wanted), 10)]

    assert await kinds(organization=nth("org", 2)) == ["lease.denied", "grant.created"]
    assert await kinds(kind="lease.*") == ["lease.issued", "lease.denied"]
    assert await kinds(kind="grant.created") == ["grant.created"]
    assert await kinds(decision="denied") == ["lease.denied"]
    assert await kinds(credential=nth("crd")) == await kinds(lease=nth("lse")) == ["lease.issued"]
    assert await kinds(actor="broker", newest=True) == ["grant.created", "lease.denied", "lease.issued"]
    assert await kinds(after=0) == ["lease.denied", "grant.created"]
    assert await kinds(until=1) == []
    assert len(await kinds(since=1)) == 3


async def test_a_full_queue_refuses_and_never_drops_what_it_took(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "QUEUE_MAX", 3)
    log = AuditLog(db)
    waiting = [asyncio.create_task(log.append(event())) for _ in range(2)]
    await asyncio.sleep(0)
    assert log.post(event())
    with pytest.raises(AuditUnavailable, match="Too many"):
        await log.append(event())
    assert not log.post(event())
    await log.start()
    assert [receipt.index for receipt in await asyncio.gather(*waiting)] == [0, 1]
    await log.stop()
    assert await indices(db) == [0, 1, 2]


async def test_stopping_writes_what_was_posted(db: Database) -> None:
    log = AuditLog(db)
    await log.start()
    assert log.post(event())
    await log.stop()
    assert await indices(db) == [0]
