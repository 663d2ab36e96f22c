"""Proofs that the log has an event, or began as it was before.

They are made of the few tiles that have their hashes.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.edge import last_tile, levels
from broker.audit.integrating import Altered, hashes_of
from broker.formats import merkle
from broker.formats.merkle import Whole
from broker.formats.tile import WIDTH, whole_by


async def inclusion(session: AsyncSession, index: int, size: int) -> Sequence[bytes]:
    """The proof that the log of ``size`` events has the one at ``index``.

    Raises:
        Altered: the log lacks a tile.
    """
    return merkle.inclusion(index, size, await _whole(session, index, size))


async def consistency(session: AsyncSession, old: int, size: int) -> Sequence[bytes]:
    """The proof that the log of ``size`` events begins with that of ``old``.

    It is empty if nothing has to be shown.

    Raises:
        Altered: the log lacks a tile.
    """
    if old in {0, size}:
        return []
    return merkle.consistency(old, size, await _whole(session, old - 1, size))


async def _whole(session: AsyncSession, index: int, size: int) -> Whole:
    """The hashes of any proof: those in the tiles above an event, and in those at the log's end."""
    wanted = {(level, index // WIDTH ** (level + 1)) for level in range(levels(size))}
    wanted |= {(level, last_tile(level, size).number) for level in range(levels(size))}
    tiles = await hashes_of(session, wanted)

    def hashes(level: int, number: int) -> bytes:
        if (level, number) not in tiles:
            raise Altered(f"the log lacks tile {number} of level {level}")
        return tiles[level, number]

    return whole_by(hashes)
