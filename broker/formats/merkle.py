"""The tree hash over a list of entries (RFC 6962 §2.1), and proofs of parts of it.

Whoever has the list makes the hash again.  Whoever has one entry shows that it is in the list by an inclusion proof
(RFC 9162 §2.1.3), and that a list only grew by a consistency proof (§2.1.4).

::

    leaf(d)      = SHA-256(0x00 | d)
    node(l, r)   = SHA-256(0x01 | l | r)
    root()       = SHA-256()                                     of no entry
    root(d)      = leaf(d)
    root(d…)     = node(root(d[:k]), root(d[k:]))                k: the largest power of two below their number
    whole(l, n)  = root(d[n * 2**l : (n + 1) * 2**l])            a whole subtree
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Final

HASH_BYTES: Final = 32
# Gives ``whole(level, number)``.
Whole = Callable[[int, int], bytes]


class ProofRefused(ValueError):
    """A proof doesn't prove what it is to prove."""


class Tree:
    """Entries that are added one by one.

    However many they are, it keeps a hash for each bit of their number.
    """

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        """The empty tree, or one as it was: ``edge`` is what it had kept at that size.

        Raises:
            ProofRefused: no tree of that size keeps so many hashes.
        """
        if len(edge) != size.bit_count() or any(len(each) != HASH_BYTES for each in edge):
            raise ProofRefused("a tree of this size keeps other hashes")
        self.size = size
        self._whole = list(edge)

    @property
    def edge(self) -> tuple[bytes, ...]:
        """The roots of whole subtrees, the largest first: one for each bit that is set in the size."""
        return tuple(self._whole)

    def add(self, entry: bytes) -> None:
        """Add the next entry."""
        self.add_hash(leaf(entry))

    def add_hash(self, hashed: bytes) -> None:
        """Add the next entry, which is given as its leaf hash."""
        made, beside = hashed, self.size
        while beside & 1:
            made = node(self._whole.pop(), made)
            beside >>= 1
        self._whole.append(made)
        self.size += 1

    def root(self) -> bytes:
        """The hash of all entries so far."""
        if not self._whole:
            return hashlib.sha256().digest()
        return _joined(self._whole)


def leaf(entry: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees beside each other."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(size: int, whole: Whole) -> bytes:
    """The root of a tree of so many entries."""
    return _range(0, size, whole) if size else hashlib.sha256().digest()


def inclusion(index: int, size: int, whole: Whole) -> list[bytes]:
    """The proof that a tree of ``size`` entries has the one that is at ``index``.

    From the entry's neighbour up to the root's child.

    Raises:
        ValueError: the tree has no such index.
    """
    if not 0 <= index < size:
        raise ValueError("there is no such entry")
    return [_range(start, stop, whole) for start, stop in reversed([*_beside(index, 0, size)])]


def consistency(old: int, size: int, whole: Whole) -> list[bytes]:
    """The proof that a tree of ``size`` entries begins with those of a tree of ``old`` entries.

    Raises:
        ValueError: it isn't larger, or ``old`` is none.
    """
    if not 0 < old < size:
        raise ValueError("a proof leads from a tree to a larger one")
    start, stop = 0, size
    beside: list[tuple[int, int]] = []
    # The proof begins with the subtree that ends where the old tree does, unless that is all of the old tree.
    while stop != old:
        middle = start + _half(stop - start)
        if old <= middle:
            beside.append((middle, stop))
            stop = middle
        else:
            beside.append((start, middle))
            start = middle
    own = [(start, stop)] if start else []
    return [_range(first, end, whole) for first, end in [*own, *reversed(beside)]]


def root_by_inclusion(entry: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of a tree of ``size`` entries with ``entry`` at ``index``, as the proof has it.

    Whoever asks compares it with one that is signed.

    Raises:
        ProofRefused: it can't be a proof of that.
    """
    if not 0 <= index < size:
        raise ProofRefused("the tree has no such index")
    inner, border = _turns(index, size)
    within, beyond = _cut(proof, inner, inner + border)
    return _climbed(_climbed(leaf(entry), within, index), beyond, -1)


def check_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the larger tree begins with the entries of the old one.

    Every tree begins with the empty one, and with itself; both are proved by nothing.

    Raises:
        ProofRefused: it isn't shown.
    """
    if not 0 <= old <= size:
        raise ProofRefused("a tree doesn't get smaller")
    if old in {0, size}:
        if proof or old_root != (root if old else hashlib.sha256().digest()):
            raise ProofRefused("the trees are of two histories")
        return
    last = old - 1
    inner, border = _turns(last, size)
    # The way begins at the largest subtree that ends where the old tree does; that may be all of it.
    skipped = (old & -old).bit_length() - 1
    inner -= skipped
    given = [old_root, *proof] if old == 1 << skipped else proof
    if not given:
        raise ProofRefused("the proof is of another length")
    start = given[0]
    within, beyond = _cut(given[1:], inner, inner + border)
    turns = last >> skipped
    of_old = [hash_ for at, hash_ in enumerate(within) if turns >> at & 1]
    made_old = _climbed(start, [*of_old, *beyond], -1)
    made = _climbed(_climbed(start, within, turns), beyond, -1)
    if (made_old, made) != (old_root, root):
        raise ProofRefused("the trees are of two histories")


def _turns(index: int, size: int) -> tuple[int, int]:
    """How many steps up from an entry are within a whole subtree.

    And how many are at the tree's right border, after these.
    """
    inner = (index ^ (size - 1)).bit_length()
    return inner, (index >> inner).bit_count()


def _cut(proof: Sequence[bytes], inner: int, length: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
    if len(proof) != length:
        raise ProofRefused("the proof is of another length")
    if any(len(each) != HASH_BYTES for each in proof):
        raise ProofRefused("a hash has 32 bytes")
    return proof[:inner], proof[inner:]


def _climbed(start: bytes, beside: Sequence[bytes], turns: int) -> bytes:
    """The hash above all of these, of which each is on the left where ``turns`` has a bit."""
    made = start
    for at, other in enumerate(beside):
        made = node(other, made) if turns >> at & 1 else node(made, other)
    return made


def _half(size: int) -> int:
    """The largest power of two below a size of two and more."""
    return 1 << (size - 1).bit_length() - 1


def _beside(index: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """What lies beside the way from the root to an entry."""
    while stop - start > 1:
        middle = start + _half(stop - start)
        if index < middle:
            yield middle, stop
            stop = middle
        else:
            yield start, middle
            start = middle


def _range(start: int, stop: int, whole: Whole) -> bytes:
    """The root over entries from ``start`` on, which is where a subtree begins."""
    parts = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        parts.append(whole(level, start >> level))
        start += 1 << level
    return _joined(parts)


def _joined(parts: Sequence[bytes]) -> bytes:
    return reduce(lambda right, left: node(left, right), reversed(parts))
