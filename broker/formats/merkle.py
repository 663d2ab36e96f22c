"""The tree hash over a list of entries (RFC 6962 §2.1).

Whoever has the list makes it again.

::

    leaf(d)      = SHA-256(0x00 | d)
    node(l, r)   = SHA-256(0x01 | l | r)
    root()       = SHA-256()                                     of no entry
    root(d)      = leaf(d)
    root(d…)     = node(root(d[:k]), root(d[k:]))                k: the largest power of two below their number
"""

from __future__ import annotations

import hashlib
from functools import reduce


class Tree:
    """Entries that are added one by one.

    However many they are, it keeps a hash for each bit of their number.
    """

    def __init__(self) -> None:
        self.size = 0
        # Roots of whole subtrees, the largest first: one for each bit that is set in the size.
        self._whole: list[bytes] = []

    def add(self, entry: bytes) -> None:
        """Add the next entry."""
        made = hashlib.sha256(b"\x00" + entry).digest()
        beside = self.size
        while beside & 1:
            made = _node(self._whole.pop(), made)
            beside >>= 1
        self._whole.append(made)
        self.size += 1

    def root(self) -> bytes:
        """The hash of all entries so far."""
        if not self._whole:
            return hashlib.sha256().digest()
        return reduce(lambda right, left: _node(left, right), reversed(self._whole))


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
