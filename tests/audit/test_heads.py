"""A database that lost events is noticed by what is kept outside of it."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from broker.audit import integrating
from broker.audit.events import BROKER, Event
from broker.audit.heads import HeadFile, Heads
from broker.audit.integrating import integrate
from broker.audit.log import AuditLog
from broker.audit.tables import HeadRow
from broker.audit.unavailable import DatabaseBehind
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.base.election import Election
from broker.formats.head import Head, Unreadable
from broker.keystore.keystore import KeystoreUnavailable
from tests.support.past import signers


def event() -> Event:
    return Event(kind="audit.read", time=now_ms(), actor=BROKER)


def heads_of(db: Database, directory: Path) -> tuple[Heads, HeadFile]:
    file = HeadFile(directory / "heads", "database")
    return Heads(db, file, None), file


async def lose(db: Database, size: int) -> None:
    """What a restored backup does."""
    async with db.write(EVERY_TENANT) as session:
        head = await session.get_one(HeadRow, 1)
        head.size = size


async def test_a_head_is_kept_outside_and_a_database_behind_it_is_refused(
    db: Database, log: AuditLog, tmp_path: Path
) -> None:
    heads, file = heads_of(db, tmp_path)
    await heads.check()
    for _ in range(3):
        await log.append(event())
    await heads.look(log, Election(db, 1))
    kept = await file.read()
    assert kept is not None
    assert kept.size == 3
    await lose(db, 2)
    with pytest.raises(DatabaseBehind, match=r"holds 2 events, and 3 .*broker restored --since"):
        await heads_of(db, tmp_path)[0].check()


async def test_another_history_of_the_same_length_is_refused(db: Database, log: AuditLog, tmp_path: Path) -> None:
    _, file = heads_of(db, tmp_path)
    await log.append(event())
    await file.keep(Head(0, 1, now_ms(), bytes(32)))
    with pytest.raises(DatabaseBehind, match="holds others"):
        await heads_of(db, tmp_path)[0].check()


async def test_a_database_that_goes_back_under_a_running_process_records_nothing_more(
    db: Database, log: AuditLog
) -> None:
    """At once, whatever was looked at: the next event finds fewer than there were."""
    await log.append(event())
    await log.append(event())
    await lose(db, 1)
    with pytest.raises(DatabaseBehind):
        await log.append(event())
    assert log.closed is not None
    with pytest.raises(DatabaseBehind):
        await log.append(event())
    assert not log.post(event())
    async with db.read(EVERY_TENANT) as session:
        assert (await session.get_one(HeadRow, 1)).size == 1


async def test_a_process_that_records_nothing_itself_notices_within_a_look(
    db: Database, log: AuditLog, tmp_path: Path
) -> None:
    heads, _ = heads_of(db, tmp_path)
    other = AuditLog(db)
    await log.append(event())
    await heads.check()
    await heads.look(other, Election(db, 1))
    await lose(db, 0)
    watching = asyncio.create_task(heads.watch(other, Election(db, 1)))
    await watching
    assert other.closed is not None


async def test_the_file_is_its_owners_alone_and_never_goes_back(tmp_path: Path) -> None:
    file = HeadFile(tmp_path / "heads", "database")
    later, earlier = Head(0, 9, 1, b"x"), Head(0, 8, 1, b"y")
    await file.keep(later)
    await file.keep(earlier)
    assert await file.read() == later
    await file.keep(Head(7, 1, 1, b"z"))
    assert await file.read() == Head(7, 1, 1, b"z")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_root_makes_is_the_owners_of_the_state_folder(tmp_path: Path) -> None:
    """Somebody runs `sudo broker doctor`; the broker, which is somebody else, goes on reading and keeping its head."""
    os.chown(tmp_path, 65534, 65534)
    file = HeadFile(tmp_path / "heads", "database")
    await file.keep(Head(0, 1, 1, b"x"))
    await file.keep(Head(0, 2, 1, b"x"))
    made = [file.path.parent, *file.path.parent.iterdir()]
    assert len(made) == 3
    assert {path.stat().st_uid for path in made} == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_root_hands_over_no_file_that_somebody_put_there(tmp_path: Path) -> None:
    secret = tmp_path / "roots"
    secret.write_text("")
    state = tmp_path / "state"
    (state / "heads").mkdir(parents=True)
    for folder in (state, state / "heads"):
        os.chown(folder, 65534, 65534)
    (state / "heads" / "database.lock").hardlink_to(secret)
    (state / "heads" / "database.new").hardlink_to(secret)
    file = HeadFile(state / "heads", "database")
    await file.keep(Head(0, 1, 1, b"x"))
    assert await file.read() == Head(0, 1, 1, b"x")
    assert secret.stat().st_uid == 0
    assert secret.read_text() == ""


async def test_a_file_that_holds_something_else_is_refused_with_its_fix(
    db: Database, log: AuditLog, tmp_path: Path
) -> None:
    heads, file = heads_of(db, tmp_path)
    file.path.parent.mkdir()
    file.path.write_bytes(b"\xff\x00")
    with pytest.raises(Unreadable, match="remove the file"):
        await heads.check()
    # One that is broken under a running process is put right by it.
    await heads.replace()
    assert (await file.read()) is not None
    assert log.closed is None


async def test_a_place_that_takes_nothing_stops_nothing(db: Database, log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / "heads").write_text("a file where a folder is needed")
    heads, _ = heads_of(db, tmp_path)
    await heads.check()
    await heads.look(log, Election(db, 1))
    await log.append(event())
    assert log.closed is None


class Slow:
    """A Vault that doesn't answer, or at first refuses."""

    where = "Vault"

    def __init__(self, *, refuses: int = 0, answers: bool = True) -> None:
        self.refuses = refuses
        self.answers = answers
        self.kept: Head | None = None
        self.asked = asyncio.Event()

    async def read(self) -> Head | None:
        return self.kept

    async def keep(self, head: Head) -> None:
        self.asked.set()
        if not self.answers:
            await asyncio.sleep(60)
        if self.refuses:
            self.refuses -= 1
            raise KeystoreUnavailable("away", cause="away")
        self.kept = head


async def leading(db: Database) -> Election:
    election = Election(db, 1)
    assert await election.holds()
    return election


async def test_a_vault_that_does_not_answer_keeps_nobody_from_noticing_a_restore(
    db: Database, log: AuditLog, tmp_path: Path
) -> None:
    file, vault, election = HeadFile(tmp_path / "heads", "database"), Slow(answers=False), await leading(db)
    heads = Heads(db, file, vault)
    await log.append(event())
    await heads.check()
    other = AuditLog(db)
    watching = asyncio.create_task(heads.watch(other, election))
    async with asyncio.timeout(10):
        await vault.asked.wait()
        await log.append(event())
        while (kept := await file.read()) is None or kept.size != 2:
            await asyncio.sleep(0.05)
        await lose(db, 1)
        while other.closed is None:
            await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    election.leave()


async def test_a_place_that_took_nothing_is_tried_again_though_no_event_came_since(
    db: Database, log: AuditLog, tmp_path: Path
) -> None:
    vault, election = Slow(refuses=1), await leading(db)
    heads = Heads(db, HeadFile(tmp_path / "heads", "database"), vault, again_s=0)
    await heads.check()
    await log.append(event())
    await heads.look(log, election)
    assert await vault.read() is None
    await heads.look(log, election)
    kept = await vault.read()
    assert kept is not None
    assert kept.size == 1
    election.leave()


async def test_a_head_that_is_kept_no_more_is_not_said_to_be_kept(db: Database, log: AuditLog, tmp_path: Path) -> None:
    heads, file = heads_of(db, tmp_path)
    await heads.check()
    await heads.look(log, Election(db, 1))
    assert await heads.kept_in() == ["the state folder"]
    file.path.with_name(file.path.name + ".new").mkdir()  # what is in the way of the next one
    await log.append(event())
    await heads.look(log, Election(db, 1))
    assert await heads.kept_in() == []


async def test_no_checkpoint_is_of_more_events_than_are_kept_in_mind_outside(
    db: Database, log: AuditLog, tmp_path: Path
) -> None:
    """A checkpoint is published, and the database restored, before the next look at it."""
    heads, file = heads_of(db, tmp_path)
    await heads.check()
    await log.append(event())
    await heads.look(log, Election(db, 1))
    await log.append(event())
    await log.append(event())
    await integrate(db, signers, heads.cover)
    async with db.read(EVERY_TENANT) as session:
        assert await integrating.size(session) == 3
    kept = await file.read()
    assert kept is not None
    assert kept.size == 3
    await lose(db, 2)
    with pytest.raises(DatabaseBehind, match=r"holds 2 events, and 3 .*broker restored --since"):
        await heads_of(db, tmp_path)[0].check()


async def test_the_shared_place_is_told_before_a_checkpoint_too(db: Database, log: AuditLog, tmp_path: Path) -> None:
    vault = Slow()
    heads = Heads(db, HeadFile(tmp_path / "heads", "database"), vault)
    await heads.check()
    await log.append(event())
    assert await heads.cover() == 1
    assert vault.kept is not None
    assert vault.kept.size == 1


async def test_nothing_is_signed_of_a_database_that_lost_events_or_that_nobody_looked_at(
    db: Database, log: AuditLog, tmp_path: Path
) -> None:
    heads, _ = heads_of(db, tmp_path)
    await log.append(event())
    with pytest.raises(DatabaseBehind):
        await integrate(db, signers, heads.cover)
    await heads.check()
    await log.append(event())
    await heads.cover()
    await lose(db, 1)
    with pytest.raises(DatabaseBehind):
        await integrate(db, signers, heads.cover)
    async with db.read(EVERY_TENANT) as session:
        assert await integrating.newest(session) is None
