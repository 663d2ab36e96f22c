"""Where the hashes and entries of a log are served, as C2SP tlog-tiles has it.

A tile has the roots of up to 256 whole subtrees beside each other.  One that is full never changes, and is a hash in
the tile above.  So whoever reads a few tiles makes any proof of the log.

::

    hashes  = whole(8 * level, 256 * number + i)…            i: from 0 to the width
    bundle  = (len16(entry) | entry)…                        the entries of a tile of level 0
    path    = "tile/" level "/" number [".p/" width]         level: 0 to 63, or "entries"; width: 1 to 255
    number  = ("x" digits "/")… digits                       three digits each, most significant first
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from broker.formats.merkle import HASH_BYTES, Whole, node

WIDTH: Final = 256
_HEIGHT: Final = 8
_LEVELS: Final = 64
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class Tile(NamedTuple):
    """One tile, or its entries: then ``level`` is None.

    ``width`` is below 256 if it is partial.
    """

    level: int | None
    number: int
    width: int = WIDTH

    def path(self) -> str:
        """Where it is served, below the log's address."""
        groups = [f"{self.number % 1_000:03}"]
        left = self.number // 1_000
        while left:
            groups.insert(0, f"x{left % 1_000:03}")
            left //= 1_000
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level is None else self.level}/{'/'.join(groups)}{partial}"

    @classmethod
    def at(cls, path: str) -> Tile | None:
        """The tile of a path; None if it is no tile's, or another spelling of one."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        level = None if match[1] == "entries" else int(match[1])
        tile = cls(level, int(match[2].replace("x", "").replace("/", "")), int(match[3] or WIDTH))
        return tile if tile.path() == path and (level or 0) < _LEVELS else None

    def is_in(self, size: int) -> bool:
        """Whether the log of so many entries has it: full, or as it was at the end of a smaller one."""
        return self.number * WIDTH + self.width <= size >> _HEIGHT * (self.level or 0)


def bundle(entries: Iterable[bytes]) -> bytes:
    """The bytes of a tile of entries."""
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def whole_by(tile: Callable[[int, int], bytes]) -> Whole:
    """The hashes of whole subtrees, by the bytes of tiles.

    ``tile`` gives those of a level and number: all that are known if it isn't full.
    """

    def whole(level: int, number: int) -> bytes:
        at, above = divmod(level, _HEIGHT)
        first = number << above
        hashes = tile(at, first // WIDTH)
        start = first % WIDTH * HASH_BYTES
        return above_all(hashes[start : start + (HASH_BYTES << above)])

    return whole


def above_all(hashes: bytes) -> bytes:
    """The hash above a row of hashes, whose number is a power of two.

    Of a full tile, that is its hash in the tile above.
    """
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]
