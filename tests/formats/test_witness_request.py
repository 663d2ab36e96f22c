"""Requests of a witness: the example of the specification, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.formats.checkpoint import Checkpoint
from broker.formats.signed_note import taken_apart
from broker.formats.witness_request import BYTES_MOST, NoWitnessRequest, WitnessRequest, size_of

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "witness_request.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=lambda vector: vector["why"])
def test_a_request_is_read_and_written_alike(vector: dict[str, Any]) -> None:
    body = vector["body"].encode()
    request = WitnessRequest.decode(body)
    assert (request.old, [hash_.hex() for hash_ in request.proof]) == (vector["old"], vector["proof"])
    assert Checkpoint.read(taken_apart(request.note)[0]).size == vector["size"]
    assert request.encode() == body


@pytest.mark.parametrize("vector", VECTORS["reject"], ids=lambda vector: vector["why"])
def test_what_is_no_request_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(NoWitnessRequest):
        WitnessRequest.decode(vector["body"].encode())


def test_more_than_may_be_is_refused() -> None:
    with pytest.raises(NoWitnessRequest):
        WitnessRequest.decode(b"old 0\n\n" + b"x" * BYTES_MOST)


@pytest.mark.parametrize(("answer", "size"), [(b"0\n", 0), (b"20852014\n", 20852014)])
def test_the_size_of_an_answer_is_read(answer: bytes, size: int) -> None:
    assert size_of(answer) == size


@pytest.mark.parametrize("answer", [b"", b"1", b"01\n", b"-1\n", b"1\n\n", b" 1\n", b"x\n", b"1" * 20 + b"\n"])
def test_what_is_no_size_is_refused(answer: bytes) -> None:
    with pytest.raises(NoWitnessRequest):
        size_of(answer)
