"""Grow the log's tree by the record's events, and sign what it has become: the integrator.

It runs outside of any request, in whatever process does the periodic work.  Several may do so at once::

    1   the events after the newest checkpoint are read, and hashed
    2   that checkpoint is locked; if it is another one by now, nothing is done
    3   the tiles that changed, each organization's tree, and the new checkpoint are written in the same transaction

So no writer waits while events are read and hashed, and no signature leaves a process unless the log has gone from the
checkpoint before to this one.  What the log has of an event is its entry alone, so a month that is archived stays in
it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.edge import Edge, last_tile, levels
from broker.audit.log_keys import signing
from broker.audit.series import epochs
from broker.audit.signing import Signers
from broker.audit.tables import CheckpointRow, CosignedRow, EventRow, HeadRow, TileRow, WitnessRow
from broker.audit.trees import cut, keep, of_organizations
from broker.base.db import EVERY_TENANT, Database, upsert
from broker.formats.checkpoint import Checkpoint
from broker.formats.ids import NoId, OrganizationId
from broker.formats.merkle import HASH_BYTES, Tree, leaf
from broker.formats.signed_note import joined
from broker.formats.tile import WIDTH, Tile, bundle

# In place of a tile's level: the entries below level 0.
_ENTRIES: Final = -1
# Events of one transaction, which are some milliseconds of hashing; and pages of one turn, the next goes on.  While
# there are more, uses have all but a small share of the time: they come first, and the log catches up later.
PAGE: Final = 16 * WIDTH
PAGES: Final = 64
SHARE: Final = 0.05
# Events that one statement reads, so that others have their turn in between.
_AT_ONCE: Final = 4 * WIDTH
LONGEST_PAUSE_S: Final = 1.0  # as a page that had to wait for a lock took no time of anybody's

# Whose an event is, and its entry.
_Added = tuple[OrganizationId | NoId, bytes]

# Gives how many events are kept in mind outside of the database: no more are signed for.
Cover = Callable[[], Awaitable[int]]


class Altered(Exception):
    """The log can't go on: its tiles aren't its checkpoint's, or an event is missing."""


class Contradicted(Exception):
    """A witness has another history of the log, so nothing more is signed of this one."""


async def integrate(db: Database, signers: Signers, cover: Cover | None = None, *, share: float = SHARE) -> None:
    """Bring the log to the end of the record, as far as one turn may.

    Args:
        db: its database.
        signers: what signs.
        cover: if there is one, no checkpoint is of more events than it gives.
        share: of the time, that more than one page may take.

    Raises:
        Altered: the log can't go on from what is there.
        Contradicted: it may not, as a witness has another one.
    """
    for _ in range(PAGES):
        covered, began = await cover() if cover is not None else None, time.monotonic()
        if not await _page(db, signers, covered):
            return
        await asyncio.sleep(min((time.monotonic() - began) * (1 / share - 1), LONGEST_PAUSE_S))


async def _page(db: Database, signers: Signers, covered: int | None) -> bool:
    """Integrate the next events, of those that are covered; says whether there may be more."""
    async with db.read(EVERY_TENANT) as session:
        before = await session.get(CheckpointRow, 1)
        known = (before.size, before.root) if before is not None else (0, Tree().root())
        size = covered if covered is not None else await session.scalar(select(HeadRow.size)) or 0
        begun, end = known[0], min(size, known[0] + PAGE)
        if end < begun or (end == begun and before is not None and before.origin == await _origin(session, signers)):
            return False
        added = await _events(session, begun, end)
        kept = await _kept(session, begun)
        edge = await _edge(session, begun, kept)
        trees = await of_organizations(session, added)
    if edge.root() != known[1]:
        raise Altered(f"the log's tiles are not those of its checkpoint at {begun}")
    # In a thread, as that is some milliseconds of hashing.
    await asyncio.to_thread(_grow, edge, trees, added)
    async with db.write(EVERY_TENANT) as session:
        newest = await locked(session)
        if (newest.size, newest.root) != known:  # another process was faster
            return True
        epoch = (await epochs(session))[-1]
        origin = signers(epoch).name
        await _insist_on_one_history(session, origin)
        await _keep(session, edge, [*kept, *(entry for _, entry in added)], begun - begun % WIDTH)
        await keep(session, trees)
        newest.origin, newest.size, newest.root = origin, end, edge.root()
        text = Checkpoint(origin, end, newest.root).text()
        newest.note = joined([signers(epoch, number).sign(text) for number in await signing(session, origin)])
        return end < size


async def _origin(session: AsyncSession, signers: Signers) -> str:
    return signers((await epochs(session))[-1]).name


def _grow(edge: Edge, trees: Mapping[OrganizationId, Tree], added: Sequence[_Added]) -> None:
    for organization, entry in added:
        hashed = leaf(entry)
        edge.add(hashed)
        if organization:
            trees[organization].add_hash(hashed)


async def locked(session: AsyncSession) -> CheckpointRow:
    """The newest checkpoint, for whoever makes the next one.

    Nobody else does until the transaction ends.
    """
    empty = {"id": 1, "origin": "", "size": 0, "root": Tree().root(), "note": b""}
    await session.execute(upsert(session, CheckpointRow).values(empty).on_conflict_do_nothing())
    return (await session.scalars(select(CheckpointRow).with_for_update())).one()


async def _insist_on_one_history(session: AsyncSession, origin: str) -> None:
    other = select(WitnessRow.contradicts).where(WitnessRow.origin == origin, WitnessRow.contradicts.is_not(None))
    if (size := await session.scalar(other.limit(1))) is not None:
        raise Contradicted(
            f"a witness has another history of {origin}, of {size} events; if the database was restored from a backup, "
            "run `broker restored --since TIME` on the server"
        )


async def _kept(session: AsyncSession, size: int) -> Sequence[bytes]:
    """The entries that fill no tile of the log yet."""
    return await entries(session, size - size % WIDTH, size)


async def _events(session: AsyncSession, first: int, end: int) -> Sequence[_Added]:
    """Whose the events from ``first`` to before ``end`` are, and their entries."""
    found: list[_Added] = []
    for start in range(first, end, _AT_ONCE):
        stop = min(start + _AT_ONCE, end)
        query = select(EventRow.idx, EventRow.organization_id, EventRow.entry).where(
            EventRow.idx >= start, EventRow.idx < stop
        )
        rows = (await session.execute(query.order_by(EventRow.idx))).all()
        if [row.idx for row in rows] != [*range(start, stop)]:
            raise Altered(f"an event is missing between {start} and {stop - 1}")
        found += [(row.organization_id, row.entry) for row in rows]
    return found


async def _edge(session: AsyncSession, size: int, entries: Sequence[bytes]) -> Edge:
    """The edge of the log at its newest checkpoint; ``entries`` are those that fill no tile yet."""
    rows = [b"".join(map(leaf, entries))]
    for level in range(1, levels(size)):
        tile = last_tile(level, size)
        kept = await session.get(TileRow, (level, tile.number))
        # What was written beyond a checkpoint is no part of it.
        rows.append(b"" if kept is None else kept.hashes[: (size >> 8 * level) % WIDTH * HASH_BYTES])
    return Edge(size, rows)


async def _keep(session: AsyncSession, edge: Edge, entries: Sequence[bytes], first: int) -> None:
    """Write the entries of tiles that changed, and the tiles above them."""
    changed = {
        (_ENTRIES, (first + at) // WIDTH): b"".join(entries[at : at + WIDTH]) for at in range(0, len(entries), WIDTH)
    }
    changed |= {(tile.level or 0, tile.number): hashes for tile, hashes in edge.full.items() if tile.level}
    if edge.full:
        partial = {last_tile(level, edge.size): row for level, row in enumerate(edge.rows) if level and row}
        changed |= {(tile.level or 0, tile.number): bytes(row) for tile, row in partial.items()}
    if changed:
        rows = [{"level": level, "number": number, "hashes": row} for (level, number), row in changed.items()]
        statement = upsert(session, TileRow).values(rows)
        key = [TileRow.level, TileRow.number]
        fresh = {"hashes": statement.excluded.hashes}
        await session.execute(statement.on_conflict_do_update(index_elements=key, set_=fresh))


async def newest(session: AsyncSession) -> CheckpointRow | None:
    """The newest checkpoint; None before the first."""
    row = await session.get(CheckpointRow, 1)
    return row if row is not None and row.note else None


async def cosigned(session: AsyncSession, quorum: int) -> bytes | None:
    """The note of the newest checkpoint that so many witnesses cosigned.

    None if the present log has none.
    """
    enough = select(CosignedRow.note).where(
        CosignedRow.origin == select(CheckpointRow.origin).scalar_subquery(), CosignedRow.count >= quorum
    )
    return await session.scalar(enough.order_by(CosignedRow.size.desc()).limit(1))


async def size(session: AsyncSession) -> int:
    """How many events are in the log."""
    return await session.scalar(select(CheckpointRow.size)) or 0


async def hashes_of(session: AsyncSession, wanted: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
    """The hashes of tiles, by level and number, as far as the log has come.

    Tiles that it doesn't have are left out.
    """
    row = TileRow
    keys = [(level or _ENTRIES, number) for level, number in wanted]
    where = or_(*(and_(row.level == level, row.number == number) for level, number in keys))
    found = {(each.level, each.number): each.hashes for each in await session.scalars(select(row).where(where))}
    return {
        (max(level, 0), number): hashes if level > 0 else b"".join(map(leaf, cut(hashes)))
        for (level, number), hashes in found.items()
    }


async def entries(session: AsyncSession, first: int, end: int) -> Sequence[bytes]:
    """The entries of the log from ``first`` to before ``end``, as far as it goes."""
    tiles = (TileRow.number >= first // WIDTH, TileRow.number * WIDTH < end)
    query = select(TileRow).where(TileRow.level == _ENTRIES, *tiles).order_by(TileRow.number)
    found = [entry for row in await session.scalars(query) for entry in cut(row.hashes)]
    begun = first - first % WIDTH
    return found[first - begun : min(end, await size(session)) - begun]


async def tile(session: AsyncSession, wanted: Tile) -> bytes | None:
    """The bytes of a tile; None if the log has no such tile yet."""
    if not wanted.is_in(await size(session)):
        return None
    row = await session.get(TileRow, (wanted.level or _ENTRIES, wanted.number))
    if row is None:
        raise Altered(f"the log lacks {wanted.path()}")
    hashes = cut(row.hashes)[: wanted.width]
    if wanted.level is None:
        return bundle(hashes)
    return b"".join(hashes if wanted.level else map(leaf, hashes))
