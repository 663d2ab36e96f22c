"""How rows are looked through: by index, in pages, each a transaction, and on from where it stopped."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Executable, delete, event, insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import GuardRow, QuotaRow
from broker.base import pruning
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.pruning import Key, Walk, forget, oldest
from broker.credentials.tables import KeyEvidenceRow, RotationRow
from broker.formats.ids import CredentialId, DeliveryId, IntakeId, LeaseId, NoticeId, OrganizationId, RotationId, of
from broker.identity.tables import AssertionRow
from broker.intake.tables import IntakeRow, ThrottleRow, UsedChallengeRow
from broker.leases.tables import LeaseRow, OrganizationDayRow, UseDayRow
from broker.notifications.tables import DeliveryRow, NoticeRow
from broker.pruning import leases, notices, requests
from broker.pruning.keeping import page_of
from broker.web.tables import IdempotencyRow
from tests.pruning.conftest import KEEPING, NOW, Rows, ago
from tests.support.sent import plan_of


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two rows, turns of three pages."""
    monkeypatch.setattr(pruning, "PAGE", 2)
    monkeypatch.setattr("broker.pruning.keeping.PAGE", 2)
    monkeypatch.setattr(pruning, "TURN", 3)


async def windows(db: Database, number: int) -> None:
    async with db.write(EVERY_TENANT) as session:
        rows = [{"key": f"{n:03d}", "window": n, "count": 1} for n in range(number)]
        await session.execute(insert(ThrottleRow), rows)


async def forget_windows(db: Database, before: int) -> None:
    await forget(db, ThrottleRow, ThrottleRow.window < before, ThrottleRow.window)


@pytest.mark.usefixtures("small")
async def test_what_may_all_go_goes_the_oldest_first_and_no_more_in_a_turn_than_fits(kept: Rows) -> None:
    await windows(kept.db, 10)
    await forget_windows(kept.db, 9)
    assert await kept.left(ThrottleRow.window) == {6, 7, 8, 9}
    await forget_windows(kept.db, 9)
    await forget_windows(kept.db, 9)
    assert await kept.left(ThrottleRow.window) == {9}


@pytest.mark.usefixtures("small")
async def test_a_page_is_a_transaction_and_a_crash_loses_none(kept: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(Exception):
        """The process ends here."""

    credential = await kept.credential()
    over = [await kept.lease(credential, ago(500 - number)) for number in range(5)]
    stays = await kept.lease(credential, ago(1))
    turn = iter(range(9))
    original = AsyncSession.commit

    async def commit(self: AsyncSession) -> None:
        if next(turn) == 1:
            raise Crash
        await original(self)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncSession, "commit", commit)
        with pytest.raises(Crash):
            await kept.prune("leases")
    assert await kept.left(LeaseRow.id) == {*over[2:], stays}
    await kept.prune("leases")
    assert await kept.left(LeaseRow.id) == {stays}


@pytest.mark.usefixtures("small")
async def test_a_walk_goes_on_where_its_last_turn_ended_and_rests_once_it_is_through(db: Database) -> None:
    met: list[Key | None] = []
    now = NOW

    async def page(_session: AsyncSession, after: Key | None, _now: Millis) -> Key | None:
        met.append(after)
        at = 0 if after is None else after[0]
        return (at + 1,) if at < 4 else None

    walk = Walk(db, lambda: now, page)
    await walk.go_on()
    assert met == [None, (1,), (2,)]
    await walk.go_on()
    assert met[3:] == [(3,), (4,)]
    await walk.go_on()
    assert len(met) == 5
    now = Millis(now + 7 * 3_600_000)
    await walk.go_on()
    assert met[5] is None


@pytest.mark.usefixtures("small")
async def test_rows_that_stay_are_passed_over(kept: Rows) -> None:
    credential = await kept.credential()
    await kept.version(credential)
    for number in range(6):
        await kept.lease(credential, ago(600 - number), mode="reveal")
    over = await kept.lease(credential, ago(450))
    walk = Walk(kept.db, lambda: NOW, leases.Leases(400).page)
    await walk.go_on()
    await walk.go_on()
    left = await kept.left(LeaseRow.id)
    assert over not in left
    assert len(left) == 6


SOME = (of(LeaseId, bytes(16)), of(LeaseId, b"\1" * 16))
PAGES: dict[str, Executable] = {
    "leases": page_of((LeaseRow.issued_at, LeaseRow.id), (1, SOME[0]), LeaseRow.issued_at < 9, LeaseRow.until < 9),
    "guards": page_of((GuardRow.id,), SOME[:1], GuardRow.id >= SOME[0], GuardRow.id <= SOME[1]),
    "quotas": page_of((QuotaRow.id,), ("a",)),
    "intakes": page_of((IntakeRow.settled_at, IntakeRow.id), (1, of(IntakeId, bytes(16))), IntakeRow.settled_at < 9),
    "rotations": page_of(
        (RotationRow.ended_at, RotationRow.id), (1, of(RotationId, bytes(16))), RotationRow.ended_at < 9
    ),
    "evidence": page_of(
        (KeyEvidenceRow.credential_id, KeyEvidenceRow.version, KeyEvidenceRow.id_hash),
        (of(CredentialId, bytes(16)), 1, "a"),
    ),
    "use_days": page_of(
        (UseDayRow.day, UseDayRow.credential_id, UseDayRow.version),
        (1, of(CredentialId, bytes(16)), 1),
        UseDayRow.day < 9,
    ),
    "organization_days": page_of(
        (OrganizationDayRow.day, OrganizationDayRow.organization_id),
        (1, of(OrganizationId, bytes(16))),
        OrganizationDayRow.day < 9,
    ),
    "deliveries": page_of((DeliveryRow.id,), (of(DeliveryId, bytes(16)),), DeliveryRow.id < of(DeliveryId, b"\1" * 16)),
    "notices": page_of((NoticeRow.id,), (of(NoticeId, bytes(16)),), NoticeRow.id < of(NoticeId, b"\1" * 16)),
}
INTAKES = [of(IntakeId, bytes(16)), of(IntakeId, b"\1" * 16)]
ROTATIONS = [of(RotationId, bytes(16)), of(RotationId, b"\1" * 16)]
CREDENTIALS = [of(CredentialId, bytes(16)), of(CredentialId, b"\1" * 16)]
NOTICES = [of(NoticeId, bytes(16)), of(NoticeId, b"\1" * 16)]
LOOKED_UP: dict[str, Executable] = {
    "leases of keys in use": leases.shown_and_in_use([*SOME], NOW),
    "leases of incidents": leases.with_incident([*SOME]),
    "requests of rotations": requests.of_open_rotation(INTAKES),
    "requests with status pages": requests.with_status_page(INTAKES, NOW),
    "rotations of requests": requests.with_request(ROTATIONS),
    "rotations of incidents": requests.with_incident(ROTATIONS),
    "keys that showed ids": requests.last_shown(CREDENTIALS),
    "destroyed keys": requests.destroyed_by(CREDENTIALS, NOW),
    "notices with deliveries": notices.with_delivery(NOTICES),
    "notices of keys in use": notices.once_of_key_in_use(NOTICES),
    "gone leases": delete(LeaseRow).where(LeaseRow.id.in_(SOME)),
    "gone guards": delete(GuardRow).where(GuardRow.id.in_(SOME)),
    "gone ids": delete(KeyEvidenceRow).where(
        KeyEvidenceRow.credential_id == CREDENTIALS[0], KeyEvidenceRow.version == 1
    ),
    "gone deliveries": delete(DeliveryRow).where(DeliveryRow.id.in_([of(DeliveryId, bytes(16))])),
    "assertions": oldest(AssertionRow, AssertionRow.expires_at < 9, AssertionRow.expires_at),
    "answers": oldest(IdempotencyRow, IdempotencyRow.expires_at < 9, IdempotencyRow.expires_at),
    "throttles": oldest(ThrottleRow, ThrottleRow.window < 9, ThrottleRow.window),
    "challenges": oldest(UsedChallengeRow, UsedChallengeRow.used_at < 9, UsedChallengeRow.used_at),
}


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_comes_by_an_index_in_its_order(db: Database, name: str) -> None:
    plan = await plan_of(db, PAGES[name])
    assert "Seq Scan" not in plan, plan
    assert "Sort" not in plan, plan
    assert "SCAN" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan


@pytest.mark.parametrize("name", LOOKED_UP)
async def test_what_is_over_is_told_and_deleted_by_indexes(db: Database, name: str) -> None:
    plan = await plan_of(db, LOOKED_UP[name])
    assert "Seq Scan" not in plan, plan
    assert not [step for step in plan.splitlines() if step.startswith("SCAN ") and "CONSTANT" not in step], plan


async def test_every_kind_is_a_duty_of_the_worker_that_rests_while_the_time_is_not_believed(db: Database) -> None:
    from broker.pruning.duties import duties

    made = duties(db, lambda: NOW, KEEPING)
    assert {duty.name for duty in made} == {f"prune_{name}" for name in PAGES}
    assert all(duty.final for duty in made)


async def test_no_statement_looks_at_more_rows_than_a_page_has(kept: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    await windows(kept.db, 9)
    monkeypatch.setattr(pruning, "PAGE", 4)
    gone: list[Any] = []
    engine = kept.db.engine.sync_engine
    event.listen(engine, "after_cursor_execute", note := (lambda *given: gone.append(given[2])))
    await forget_windows(kept.db, 100)
    event.remove(engine, "after_cursor_execute", note)
    assert len([text for text in gone if text.startswith("DELETE FROM throttles")]) == 3
