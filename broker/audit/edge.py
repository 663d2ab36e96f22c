"""The right edge of the log's tree: what a new entry changes.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from broker.formats.merkle import HASH_BYTES, root_of
from broker.formats.tile import WIDTH, Tile, above_all, whole_by

_FULL = WIDTH * HASH_BYTES


class Edge:
    """A log's tree that entries are added to.

    ``rows`` are the hashes, by level, that fill no tile yet; ``full`` the tiles that were filled since.  However large
    the log is, that is all of it that changes.
    """

    def __init__(self, size: int = 0, rows: Sequence[bytes] = ()) -> None:
        self.size = size
        self.rows = [bytearray(row) for row in rows]
        self.full: dict[Tile, bytes] = {}

    def add(self, hashed: bytes) -> None:
        """Add the next entry, which is given as its leaf hash."""
        self._push(0, hashed)
        self.size += 1

    def _push(self, level: int, made: bytes) -> None:
        if level == len(self.rows):
            self.rows.append(bytearray())
        row = self.rows[level]
        row += made
        if len(row) == _FULL:
            self.full[last_tile(level, self.size)] = filled = bytes(row)
            row.clear()
            self._push(level + 1, above_all(filled))

    def root(self) -> bytes:
        """The root over all entries."""
        return root_of(self.size, whole_by(lambda level, _number: bytes(self.rows[level])))


def last_tile(level: int, size: int) -> Tile:
    """The tile of a level that the next entry of a log of that size belongs under."""
    return Tile(level, size // WIDTH ** (level + 1))


def levels(size: int) -> int:
    """How many levels a log of that size has hashes in."""
    return -(-size.bit_length() // 8)
