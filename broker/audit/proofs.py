"""Proofs about the log, made of its tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.integrating import Altered, tile
from broker.formats.merkle import HASH_BYTES, Whole
from broker.formats.tile import WIDTH, Tile, whole_by

Result = TypeVar("Result")

_ANY: Final = bytes(WIDTH * HASH_BYTES)


async def by_tiles(session: AsyncSession, size: int, make: Callable[[Whole], Result]) -> Result:
    """What ``make`` makes of the hashes of whole subtrees of the log at a size.

    It is called twice, first with hashes that mean nothing: so those that it asks for can be read before the second.

    Raises:
        Altered: the log lacks a tile.
    """
    wanted: dict[tuple[int, int], bytes] = {}

    def noted(level: int, number: int) -> bytes:
        wanted[level, number] = b""
        return _ANY

    make(whole_by(noted))
    for level, number in wanted:
        width = min(WIDTH, (size >> 8 * level) - number * WIDTH)
        found = await tile(session, Tile(level, number, width))
        if found is None:
            raise Altered(f"the log is not of {size} events")
        wanted[level, number] = found
    return make(whole_by(lambda level, number: wanted[level, number]))
