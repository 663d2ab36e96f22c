"""Signatures with ML-DSA-44: those of the vectors, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from broker.formats.checkpoint import Checkpoint
from broker.formats.ml_dsa import MlDsaKey, MlDsaSigner, signed_at
from broker.formats.signed_note import KeyUnreadable, NoteRefused, Signer, Verifier, opened

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ml_dsa.json").read_text())
SIGNER = MlDsaSigner(VECTORS["name"], bytes.fromhex(VECTORS["seed"]))
KEY = MlDsaKey.read(VECTORS["key"])
TEXT = VECTORS["text"]
CHECKPOINT = Checkpoint.read(TEXT)


def note(lines: str) -> bytes:
    return f"{TEXT}\n{lines}".encode()


def test_a_key_is_that_of_the_vectors() -> None:
    assert SIGNER.key() == KEY
    assert KEY.line() == VECTORS["key"]


def test_what_is_signed_is_that_of_the_specification() -> None:
    signature = SIGNER.sign(CHECKPOINT, 7).signature
    origin = CHECKPOINT.origin.encode()
    said = [b"subtree/v1\n\0", bytes([27]), origin, bytes(7), b"\7", bytes([27]), origin, bytes(8)]
    said += [CHECKPOINT.size.to_bytes(8, "big"), CHECKPOINT.root]
    MLDSA44PublicKey.from_public_bytes(KEY.public).verify(signature[8:], b"".join(said))
    assert (signature[:8], len(signature)) == (bytes(7) + b"\7", 8 + 2_420)


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=lambda vector: vector["why"])
def test_what_is_signed_is_accepted_with_its_time(vector: dict[str, Any]) -> None:
    assert signed_at(note(vector["lines"]), KEY) == vector["time"]


@pytest.mark.parametrize("vector", VECTORS["reject"], ids=lambda vector: vector["why"])
def test_what_is_not_signed_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(NoteRefused):
        signed_at(note(vector["lines"]), KEY)


def test_a_text_that_is_no_checkpoint_is_refused() -> None:
    text, line = f"{TEXT}more\n", SIGNER.sign(CHECKPOINT, 7).text()
    with pytest.raises(NoteRefused):
        signed_at(f"{text}\n{line}".encode(), KEY)


def test_a_checkpoint_is_valid_under_either_key_and_who_knows_one_ignores_the_other() -> None:
    ed25519 = Signer(SIGNER.name, bytes(32))
    both = ed25519.sign(TEXT) + SIGNER.sign(CHECKPOINT, 7).text().encode()
    assert opened(both, ed25519.verifier()) == TEXT
    assert signed_at(both, KEY) == 7


@pytest.mark.parametrize(
    "line", ["", KEY.line()[:-4], KEY.line() + "\n", Signer(SIGNER.name, SIGNER.seed).verifier().line()]
)
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(KeyUnreadable):
        MlDsaKey.read(line)
    with pytest.raises(KeyUnreadable):
        Verifier.read(KEY.line())


@pytest.mark.parametrize(
    ("name", "seconds"), [("a b", 1), ("a+b", 1), ("", 1), ("a" * 256, 1), ("a", -1), ("a", 2**63)]
)
def test_what_no_line_can_hold_is_not_signed(name: str, seconds: int) -> None:
    with pytest.raises(ValueError, match="no signature"):
        MlDsaSigner(name, SIGNER.seed).sign(CHECKPOINT, seconds)


def test_a_signer_does_not_show_its_key() -> None:
    assert SIGNER.seed.hex() not in repr(SIGNER)
    assert repr(SIGNER.seed) not in repr(SIGNER)
