"""The tree hash, by the vectors that RFC 6962's own implementations share."""

from __future__ import annotations

import hashlib

import pytest

from broker.formats.merkle import Tree

# Entries and roots of certificate-transparency's tests (merkletree), for trees of 0 to 8 of these entries.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_of(entries: list[bytes]) -> Tree:
    tree = Tree()
    for entry in entries:
        tree.add(entry)
    return tree


@pytest.mark.parametrize("size", range(9))
def test_the_root_of_a_tree_is_that_of_the_shared_vectors(size: int) -> None:
    assert tree_of(ENTRIES[:size]).root().hex() == ROOTS[size]


def by_definition(entries: list[bytes]) -> bytes:
    """RFC 6962 §2.1, to the letter."""
    if len(entries) <= 1:
        return hashlib.sha256(b"\0" + entries[0] if entries else b"").digest()
    half = 1 << (len(entries) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + by_definition(entries[:half]) + by_definition(entries[half:])).digest()


def test_entries_that_are_added_one_by_one_make_the_tree_of_the_definition() -> None:
    entries = [number.to_bytes(2) for number in range(130)]
    tree = Tree()
    for size, entry in enumerate(entries, 1):
        tree.add(entry)
        assert tree.root() == by_definition(entries[:size])
