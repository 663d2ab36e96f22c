"""What is packed unpacks to the same bytes; nothing else does."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.audit_event import MAX_BYTES
from broker.formats.packed_core import DICTIONARY, NotPacked, pack, unpack

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "audit-events.json").read_text())
CORES = [vector["core"].encode() for vector in VECTORS]


@pytest.mark.parametrize("core", CORES)
def test_the_core_of_every_kind_of_event_comes_back(core: bytes) -> None:
    assert unpack(pack(core)) == core
    assert unpack(core) == core, "also one that was kept as it is"


def test_a_core_of_a_use_is_a_third_of_what_it_was() -> None:
    uses = [core for core in CORES if b'"kind":"use.' in core]
    assert uses
    assert sum(len(pack(core)) for core in uses) < sum(map(len, uses)) * 0.45


@given(st.binary(max_size=MAX_BYTES))
def test_any_bytes_come_back(core: bytes) -> None:
    assert unpack(pack(core)) == core


@given(st.binary(max_size=200).filter(lambda kept: not kept.startswith(b"{")))
def test_other_bytes_are_refused_or_are_what_packs_so(kept: bytes) -> None:
    try:
        core = unpack(kept)
    except NotPacked:
        return
    assert unpack(pack(core)) == core


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_core_that_was_cut_is_refused(cut: int) -> None:
    with pytest.raises(NotPacked):
        unpack(pack(CORES[0])[:-cut])


def test_more_than_a_core_may_be_is_refused_without_being_made() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    with pytest.raises(NotPacked):
        unpack(b"\x01" + packer.compress(bytes(50_000_000)) + packer.flush())
