"""Cosignatures: those of the vectors, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.formats.cosignature import Cosigner, WitnessKey, cosigned_at
from broker.formats.signed_note import KeyUnreadable, NoteRefused, Signer, opened

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "cosignature.json").read_text())
WITNESS = Cosigner(VECTORS["name"], bytes.fromhex(VECTORS["seed"]))
KEY = WitnessKey.read(VECTORS["key"])
TEXT = VECTORS["text"]


def test_a_cosignature_and_its_key_are_those_of_the_vectors() -> None:
    assert WITNESS.key() == KEY
    assert KEY.line() == VECTORS["key"]
    assert Cosigner.read(VECTORS["secret"]) == WITNESS
    assert WITNESS.secret() == VECTORS["secret"]
    assert WITNESS.sign(TEXT, VECTORS["time"]).text() == VECTORS["line"]


def test_what_is_signed_is_that_of_the_specification() -> None:
    signature = WITNESS.sign(TEXT, 7).signature
    assert signature[:8] == bytes([0, 0, 0, 0, 0, 0, 0, 7])
    said = b"cosignature/v1\ntime 7\n" + TEXT.encode()
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(signature[8:], said)


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=lambda vector: vector["why"])
def test_what_is_cosigned_is_accepted_with_its_time(vector: dict[str, Any]) -> None:
    assert cosigned_at(vector["note"].encode(), KEY) == vector["time"]


@pytest.mark.parametrize("vector", VECTORS["reject"], ids=lambda vector: vector["why"])
def test_what_is_not_cosigned_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(NoteRefused):
        cosigned_at(vector["note"].encode(), KEY)


def test_who_knows_the_log_alone_reads_past_cosignatures() -> None:
    log = Signer("example.com/behind-the-sofa", bytes(range(32)))
    assert opened(VECTORS["accept"][0]["note"].encode(), log.verifier()) == TEXT


@pytest.mark.parametrize("line", VECTORS["no_keys"])
def test_what_is_no_witnesses_key_is_refused(line: str) -> None:
    with pytest.raises(KeyUnreadable):
        WitnessKey.read(line)


@pytest.mark.parametrize("line", VECTORS["no_secrets"])
def test_what_is_no_secret_key_is_refused(line: str) -> None:
    with pytest.raises(KeyUnreadable):
        Cosigner.read(line)


def test_no_byte_of_a_cosignature_can_be_another() -> None:
    note = bytearray(VECTORS["accept"][1]["note"].encode())
    for place in range(len(note)):
        changed = bytearray(note)
        changed[place] ^= 1
        with pytest.raises(NoteRefused):
            cosigned_at(bytes(changed), KEY)


@pytest.mark.parametrize(("name", "seconds"), [("a b", 1), ("a+b", 1), ("", 1), ("a", -1), ("a", 2**63)])
def test_what_no_line_can_hold_is_not_signed(name: str, seconds: int) -> None:
    with pytest.raises(ValueError, match="no cosignature"):
        Cosigner(name, WITNESS.seed).sign(TEXT, seconds)


def test_a_witness_does_not_show_its_key() -> None:
    assert WITNESS.seed.hex() not in repr(WITNESS)
    assert repr(WITNESS.seed) not in repr(WITNESS)
