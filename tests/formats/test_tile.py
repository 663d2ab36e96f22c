"""Tiles: what C2SP's page says of them, and the proofs that are made of them alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.merkle import (
    Tree,
    check_consistency,
    consistency,
    inclusion,
    leaf,
    node,
    root_by_inclusion,
    root_of,
)
from broker.formats.tile import WIDTH, Tile, bundle, whole_by
from tests.formats.test_merkle import by_definition

SIZE = 70_000


@pytest.fixture(scope="module")
def leaves() -> list[bytes]:
    return [leaf(number.to_bytes(4)) for number in range(SIZE)]


@pytest.fixture(scope="module")
def tiles(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    """Every tile of a log of that size, by level and number."""
    found: dict[tuple[int, int], bytes] = {}
    row, level = leaves, 0
    while row:
        cut = [row[at : at + WIDTH] for at in range(0, len(row), WIDTH)]
        found |= {(level, number): b"".join(hashes) for number, hashes in enumerate(cut)}
        row, level = [above(hashes) for hashes in cut if len(hashes) == WIDTH], level + 1
    return found


def above(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [node(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def test_a_log_of_seventy_thousand_has_the_tiles_that_the_page_counts(tiles: dict[tuple[int, int], bytes]) -> None:
    widths = [[len(hashes) // 32 for (level, _), hashes in tiles.items() if level == at] for at in range(4)]
    assert widths == [[256] * 273 + [112], [256, 17], [1], []]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 65_536, 65_537, 69_999, SIZE])
def test_roots_and_proofs_are_made_of_tiles(
    leaves: list[bytes], tiles: dict[tuple[int, int], bytes], size: int
) -> None:
    whole = whole_by(lambda level, number: tiles[level, number])
    tree = Tree()
    for number in range(size):
        tree.add(number.to_bytes(4))
    root = root_of(size, whole)
    assert root == tree.root()
    for index in {0, size // 3, size - 1}:
        proof = inclusion(index, size, whole)
        assert root_by_inclusion(index.to_bytes(4), index, size, proof) == root
    for old in {1, size // 3, size - 1} - {0, size}:
        check_consistency(old, root_of(old, whole), size, root, consistency(old, size, whole))


def test_a_tile_below_ones_above_is_a_hash_there(tiles: dict[tuple[int, int], bytes]) -> None:
    assert tiles[1, 0][:32] == by_definition([number.to_bytes(4) for number in range(WIDTH)])


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/000", Tile(0, 0)),
        ("tile/0/x001/x234/067", Tile(0, 1_234_067)),
        ("tile/0/x001/000", Tile(0, 1_000)),
        ("tile/63/999", Tile(63, 999)),
        ("tile/2/000.p/1", Tile(2, 0, 1)),
        ("tile/entries/x273/112.p/255", Tile(None, 273_112, 255)),
    ],
)
def test_a_tile_has_one_path(path: str, tile: Tile) -> None:
    assert tile.path() == path
    assert Tile.at(path) == tile


@given(st.integers(0, 63), st.integers(0, 2**40), st.integers(1, 256))
def test_every_tile_is_found_by_its_path(level: int, number: int, width: int) -> None:
    for each in (Tile(level, number, width), Tile(None, number, width)):
        assert Tile.at(each.path()) == each


@pytest.mark.parametrize(
    "path",
    [
        "tile/64/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/data/000",
        "tile/entries/000.p",
        "/tile/0/000",
    ],
)
def test_another_spelling_is_no_tile(path: str) -> None:
    assert Tile.at(path) is None


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    tile = Tile.at(text)
    assert tile is None or tile.path() == text


@pytest.mark.parametrize(
    ("tile", "least"),
    [
        (Tile(0, 0, 1), 1),
        (Tile(0, 0), 256),
        (Tile(None, 0), 256),
        (Tile(0, 273, 112), 70_000),
        (Tile(1, 0, 1), 256),
        (Tile(1, 1, 17), 273 * 256),
        (Tile(2, 0, 1), 65_536),
    ],
)
def test_a_log_has_a_tile_from_a_size_on(tile: Tile, least: int) -> None:
    assert tile.is_in(least)
    assert not tile.is_in(least - 1)


def test_a_bundle_has_each_entry_after_its_length() -> None:
    assert bundle([b"", b"ab", bytes(256)]) == b"\0\0" + b"\0\2ab" + b"\1\0" + bytes(256)
