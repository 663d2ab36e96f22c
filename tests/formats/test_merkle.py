"""The tree hash, by the vectors that RFC 6962's own implementations share."""

from __future__ import annotations

import hashlib

import pytest

from broker.formats import merkle
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


def whole_of(entries: list[bytes]) -> merkle.Whole:
    return lambda level, number: by_definition(entries[number << level : (number + 1) << level])


def path_by_definition(index: int, entries: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1, to the letter."""
    if len(entries) == 1:
        return []
    half = 1 << (len(entries) - 1).bit_length() - 1
    if index < half:
        return [*path_by_definition(index, entries[:half]), by_definition(entries[half:])]
    return [*path_by_definition(index - half, entries[half:]), by_definition(entries[:half])]


def subproof_by_definition(old: int, entries: list[bytes], *, whole: bool) -> list[bytes]:
    """RFC 6962 §2.1.2, to the letter."""
    if old == len(entries):
        return [] if whole else [by_definition(entries)]
    half = 1 << (len(entries) - 1).bit_length() - 1
    if old <= half:
        return [*subproof_by_definition(old, entries[:half], whole=whole), by_definition(entries[half:])]
    return [*subproof_by_definition(old - half, entries[half:], whole=False), by_definition(entries[:half])]


SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48)
MANY = [number.to_bytes(2) for number in range(max(SIZES))]


@pytest.mark.parametrize("size", SIZES)
def test_every_entry_has_the_proof_of_the_definition_and_that_proves_it_and_no_other(size: int) -> None:
    entries = MANY[:size]
    root = by_definition(entries)
    assert merkle.root_of(size, whole_of(entries)) == root
    for index, entry in enumerate(entries):
        proof = merkle.inclusion(index, size, whole_of(entries))
        assert proof == path_by_definition(index, entries)
        assert merkle.root_by_inclusion(entry, index, size, proof) == root
        for other in {(index + 1) % size, size - 1} - {index}:
            assert not proves(entry, other, size, proof, root)
        assert not proves(b"another", index, size, proof, root)
        for wrong in altered(proof):
            assert not proves(entry, index, size, wrong, root)


@pytest.mark.parametrize("size", SIZES)
def test_every_smaller_tree_has_the_proof_of_the_definition_and_that_proves_it_and_no_other(size: int) -> None:
    entries = MANY[:size]
    root = by_definition(entries)
    for old in range(1, size):
        old_root = by_definition(entries[:old])
        proof = merkle.consistency(old, size, whole_of(entries))
        assert proof == subproof_by_definition(old, entries, whole=True)
        assert grew(old, old_root, size, root, proof)
        assert not grew(old, by_definition([*entries[: old - 1], b"x"]), size, root, proof)
        assert not grew(old, old_root, size, by_definition([*entries[:-1], b"x"]), proof)
        assert not grew(old, by_definition(entries[: old - 1]), size, root, proof)
        for wrong in altered(proof):
            assert not grew(old, old_root, size, root, wrong)


def test_a_tree_begins_with_itself_and_with_the_empty_one() -> None:
    empty, root = by_definition([]), by_definition(MANY)
    assert grew(len(MANY), root, len(MANY), root, [])
    assert grew(0, empty, len(MANY), root, [])
    assert merkle.root_of(0, whole_of([])) == empty
    assert not grew(len(MANY), empty, len(MANY), root, [])
    assert not grew(0, root, len(MANY), root, [])
    assert not grew(0, empty, len(MANY), root, [root])
    assert not grew(len(MANY), root, len(MANY) - 1, root, [])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3)])
def test_there_is_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such entry"):
        merkle.inclusion(index, size, whole_of(MANY))
    with pytest.raises(merkle.ProofRefused, match="no such index"):
        merkle.root_by_inclusion(b"", index, size, [])


@pytest.mark.parametrize(("old", "size"), [(0, 3), (3, 3), (4, 3)])
def test_a_proof_leads_to_a_larger_tree(old: int, size: int) -> None:
    with pytest.raises(ValueError, match="to a larger one"):
        merkle.consistency(old, size, whole_of(MANY))


def altered(proof: list[bytes]) -> list[list[bytes]]:
    """The proof with one thing changed."""
    cut = [proof[:at] + proof[at + 1 :] for at in range(len(proof))]
    other = [[*proof[:at], bytes([each[0] ^ 1]) + each[1:], *proof[at + 1 :]] for at, each in enumerate(proof)]
    short = [[*proof[:at], each[:-1], *proof[at + 1 :]] for at, each in enumerate(proof)]
    return [*cut, *other, *short, [*proof, bytes(32)], [bytes(32), *proof]]


def proves(entry: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    try:
        return merkle.root_by_inclusion(entry, index, size, proof) == root
    except merkle.ProofRefused:
        return False


def grew(old: int, old_root: bytes, size: int, root: bytes, proof: list[bytes]) -> bool:
    try:
        merkle.check_consistency(old, old_root, size, root, proof)
    except merkle.ProofRefused:
        return False
    return True
