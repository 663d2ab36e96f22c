"""What one event brings never costs another event its place on the record, or time."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from broker.audit.batch import Batch, Decided
from broker.audit.events import Actor, AuditTarget, Event, Outcome
from broker.audit.log import AuditLog, RowRefused
from broker.audit.quota import Total
from broker.audit.search import Filter, search
from broker.audit.unavailable import AuditUnavailable
from broker.base import storable
from broker.base.clock import later, now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.base.storable import Unstorable
from tests.audit.test_log import INSERT_USE, event, indices, use_row
from tests.support.ids import nth
from tests.support.waiting import eventually

REFUSED = (Unstorable, RowRefused, AuditUnavailable)
TEXTS = ["\udcff", "a\ud800", "\0", "a\0b", "\x9b31m", "\u202e", "é" * 900, "😀" * 900, "\n", "x" * 70_000, ""]
VALUES = [*TEXTS, 2**63, -(2**63) - 1, 2**200, -1, 1.5, float("nan"), None, True, b"\0", [], {}, object()]


@pytest.fixture
def rounds(db: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the database was asked to write."""
    asked: list[None] = []
    original = db.transact

    async def counted(work: Any) -> Any:
        asked.append(None)
        return await original(work)

    monkeypatch.setattr(db, "transact", counted)
    return lambda: len(asked)


def odd_row(chosen: random.Random, use: str) -> dict[str, Any]:
    """A row with a value or two that may not be kept."""
    row = use_row(use)
    for name in chosen.sample(sorted(row), chosen.randint(1, 2)):
        row[name] = chosen.choice(VALUES)
    return row


def odd_event(chosen: random.Random) -> Event:
    """An event with texts of all kinds wherever people and programs write them."""
    said = [chosen.choice(TEXTS) for _ in range(6)]
    actor = Actor("workload", nth("wkl"), said[0], said[1], said[2])
    outcome = Outcome(200, 1, chosen.randrange(2**53), 0, said[3])
    return event("use.authorized", actor=actor, target=AuditTarget("h", "GET", said[4]), outcome=outcome, note=said[5])


@pytest.mark.parametrize("looked_at", [True, False], ids=["looked-at", "as-it-is"])
@pytest.mark.parametrize("seed", range(3))
async def test_neighbours_of_what_is_refused_are_committed_in_one_round(
    db: Database,
    log: AuditLog,
    rounds: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    looked_at: bool,
) -> None:
    chosen, odd, count = random.Random(seed), [], 40
    if not looked_at:  # as if the last look let everything pass
        monkeypatch.setattr(storable, "check", lambda _values: None)
    # when good events are appended among others that bring what may not be kept
    appending = []
    for number in range(count):
        if chosen.random() < 0.3:
            odd.append(number)
            writes = [(INSERT_USE, odd_row(chosen, nth("use", number)))]
            appending.append(log.append(odd_event(chosen), writes=writes))
        else:
            writes = [(INSERT_USE, use_row(nth("use", number)))]
            appending.append(log.append(event("use.authorized"), {nth("grt"): 0}, writes))
    outcomes = await asyncio.gather(*appending, return_exceptions=True)
    # then each good one stands, whatever became of the others
    refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
    assert set(refused) <= set(odd)
    assert all(isinstance(outcomes[number], REFUSED) for number in refused)
    assert await indices(db) == list(range(count - len(refused)))
    # and nothing was tried twice: halving a batch until it is one event asks less often than this
    assert rounds() < 2 * count
    assert log.late == 0


@pytest.mark.parametrize("value", [2**63, "\udcff", "a\0b", "\x9b31m"])
async def test_what_cannot_be_kept_is_refused_before_it_waits(
    db: Database, log: AuditLog, rounds: Callable[[], int], value: object
) -> None:
    with pytest.raises(Unstorable):
        await log.append(event("use.authorized"), writes=[(INSERT_USE, use_row(nth("use")) | {"method": value})])
    with pytest.raises(Unstorable):
        log.post(event("use.completed"), writes=[(INSERT_USE, use_row(nth("use")) | {"method": value})])
    if isinstance(value, str):
        for bad in ({"guards": {value: 0}}, {"raises": [value]}, {"quotas": [Total(value, 1)]}):
            with pytest.raises(Unstorable):
                await log.append(event("use.authorized"), **bad)
    assert (log.depth, rounds()) == (0, 0)


def locked() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def stated(state: str) -> DBAPIError:
    cause = Exception(state)
    cause.sqlstate = state  # type: ignore[attr-defined]  # as drivers do
    return DBAPIError("COMMIT", (), cause)


@pytest.mark.parametrize(
    "trouble",
    [ConnectionResetError(), TimeoutError(), locked(), *map(stated, ("40001", "55P03", "57P01", "25006", "53100"))],
    ids=["reset", "late", "locked", "serialization", "lock-time-out", "shutdown", "read-only", "disk-full"],
)
async def test_what_says_that_the_server_is_at_fault_is_tried_again(
    db: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    left, original = [trouble, trouble], log.commits.commit

    async def troubled(batch: Batch) -> Decided:
        if left:
            raise left.pop()
        return await original(batch)

    monkeypatch.setattr(log.commits, "commit", troubled)
    receipts = await asyncio.gather(*(log.append(event()) for _ in range(3)))
    assert sorted(receipt.index for receipt in receipts) == [0, 1, 2]
    assert not left


async def test_what_a_database_will_never_take_is_a_no_at_once(
    db: Database, log: AuditLog, rounds: Callable[[], int]
) -> None:
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text("DROP TABLE uses"))
    outcomes = await asyncio.gather(
        log.append(event("use.authorized"), writes=[(INSERT_USE, use_row(nth("use")))]),
        log.append(event()),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], AuditUnavailable)
    assert not isinstance(outcomes[1], BaseException)
    assert rounds() <= 4, "of which one makes the key of their personal parts"


async def test_whatever_was_posted_goes_with_the_others(db: Database, log: AuditLog) -> None:
    assert log.post(event("use.completed", note="é" * 2_000, actor=Actor("workload", nth("wkl"), "😀" * 2_000)))
    await log.append(event())

    async def both() -> bool:
        return len(await indices(db)) == 2

    await eventually(both)
    found = await search(db, EVERY_TENANT, Filter(kind="use.completed", until=later(now_ms(), 1)), 1)
    assert found[0].personal is not None
    assert found[0].personal["note"] == "é" * 1_000
