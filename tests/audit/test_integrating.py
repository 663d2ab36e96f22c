"""The log: its tree is made of the record's events, by whoever does the work, and goes one way only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from sqlalchemy import delete, select, text

from broker.audit import integrating
from broker.audit.events import BROKER, Event
from broker.audit.integrating import Altered, integrate
from broker.audit.record import record
from broker.audit.tables import EventRow, SeriesRow, TileRow
from broker.base.clock import Millis, now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.formats.checkpoint import Checkpoint
from broker.formats.merkle import Tree, check_consistency, consistency, root_of
from broker.formats.signed_note import Signer, opened
from broker.formats.tile import WIDTH, Tile, whole_by
from tests.support.past import signers

# As an archive's taker may.
LIFTED = {
    "sqlite": "DROP TRIGGER audit_events_no_delete",
    "postgresql": "ALTER TABLE audit_events DISABLE TRIGGER audit_events_only_grow",
}


async def put(db: Database, count: int) -> None:
    async with db.write(EVERY_TENANT) as session:
        for _ in range(count):
            await record(session, Event(kind="use.denied", time=now_ms(), actor=BROKER, decision="denied"))


async def entries(db: Database) -> list[bytes]:
    async with db.read(EVERY_TENANT) as session:
        return list(await session.scalars(select(EventRow.entry).order_by(EventRow.idx)))


def root_over(found: Iterable[bytes]) -> bytes:
    tree = Tree()
    for entry in found:
        tree.add(entry)
    return tree.root()


async def checkpoint(db: Database, epoch: int = 0) -> Checkpoint:
    async with db.read(EVERY_TENANT) as session:
        row = await integrating.newest(session)
    assert row is not None
    found = Checkpoint.read(opened(row.note, signers(epoch).verifier()))
    assert found == Checkpoint(row.origin, row.size, row.root)
    return found


async def bytes_of(db: Database, tile: Tile) -> bytes | None:
    async with db.read(EVERY_TENANT) as session:
        return await integrating.tile(session, tile)


async def all_tiles(db: Database, size: int) -> dict[tuple[int, int], bytes]:
    """Every tile of hashes of a log of that size."""
    found: dict[tuple[int, int], bytes] = {}
    level = 0
    while hashes := size >> 8 * level:
        for number in range(-(-hashes // WIDTH)):
            read = await bytes_of(db, Tile(level, number, min(WIDTH, hashes - number * WIDTH)))
            assert read is not None
            found[level, number] = read
        level += 1
    return found


@pytest.mark.parametrize("counts", [(1,), (255, 1), (256, 1), (300, 300, 10)])
async def test_a_checkpoint_is_over_all_events_however_they_came(db: Database, counts: tuple[int, ...]) -> None:
    for count in counts:
        await put(db, count)
        await integrate(db, signers)
        found = await entries(db)
        assert await checkpoint(db) == Checkpoint("a-log/0", len(found), root_over(found))


async def test_the_log_is_made_of_its_tiles_alone_and_each_proves_the_one_before(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrating, "PAGE", 150)  # no multiple of a tile
    await put(db, 400)
    await integrate(db, signers)
    before = await checkpoint(db)
    await put(db, 400)
    await integrate(db, signers)
    after = await checkpoint(db)
    tiles = await all_tiles(db, after.size)
    whole = whole_by(lambda level, number: tiles[level, number])
    assert root_of(after.size, whole) == after.root
    check_consistency(before.size, before.root, after.size, after.root, consistency(before.size, after.size, whole))
    # and the entries are those of the record
    bundles = [await bytes_of(db, Tile(None, number, width)) for number, width in enumerate((256, 256, 256, 32))]
    assert b"".join(each or b"" for each in bundles) == b"".join(b"\0\x20" + entry for entry in await entries(db))


async def test_tiles_that_the_log_has_not_yet_are_none(db: Database) -> None:
    assert await bytes_of(db, Tile(0, 0, 1)) is None
    await put(db, 3)
    assert await bytes_of(db, Tile(0, 0, 1)) is None
    await integrate(db, signers)
    assert len(await bytes_of(db, Tile(0, 0, 3)) or b"") == 96
    assert await bytes_of(db, Tile(0, 0, 4)) is None
    assert await bytes_of(db, Tile(1, 0, 1)) is None


async def test_a_tile_that_was_partial_stays_what_it_was(db: Database) -> None:
    await put(db, 3)
    await integrate(db, signers)
    partial = await bytes_of(db, Tile(0, 0, 3))
    await put(db, 300)
    await integrate(db, signers)
    assert await bytes_of(db, Tile(0, 0, 3)) == partial


async def test_several_at_once_make_one_log(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrating, "PAGE", 20)
    await put(db, 200)
    await asyncio.gather(*(integrate(db, signers) for _ in range(4)))
    await integrate(db, signers)
    found = await entries(db)
    assert await checkpoint(db) == Checkpoint("a-log/0", 200, root_over(found))


async def test_without_new_events_nothing_is_signed(db: Database) -> None:
    await put(db, 3)
    await integrate(db, signers)
    asked: list[int] = []

    def noted(epoch: int, number: int = 0) -> Signer:
        asked.append(epoch)
        return Signer(signers(epoch).name, b"x" * 32)

    await integrate(db, noted)
    assert asked == [0]
    assert (await checkpoint(db)).size == 3


async def test_a_log_goes_on_when_its_events_are_archived(db: Database) -> None:
    await put(db, 300)
    await integrate(db, signers)
    await put(db, 10)
    found = await entries(db)
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text(LIFTED[db.dialect]))
        await session.execute(delete(EventRow).where(EventRow.idx < 300))
    await integrate(db, signers)
    assert await checkpoint(db) == Checkpoint("a-log/0", 310, root_over(found))


async def test_a_restored_database_is_another_log_over_the_same_events(db: Database) -> None:
    await put(db, 3)
    await integrate(db, signers)
    async with db.write(EVERY_TENANT) as session:
        session.add(SeriesRow(began_at=Millis(7), base=3, lost_to=9, since=Millis(1), confirmed_at=Millis(8)))
    await integrate(db, signers)
    assert await checkpoint(db, 7) == Checkpoint("a-log/7", 3, root_over(await entries(db)))


async def test_what_is_not_the_logs_stops_it(db: Database) -> None:
    await put(db, 300)
    await integrate(db, signers)
    good = await checkpoint(db)
    async with db.write(EVERY_TENANT) as session:
        row = await session.get_one(TileRow, (-1, 1))
        row.hashes = bytes([row.hashes[0] ^ 1]) + row.hashes[1:]
    await put(db, 1)
    with pytest.raises(Altered, match="not those of its checkpoint at 300"):
        await integrate(db, signers)
    assert await checkpoint(db) == good
