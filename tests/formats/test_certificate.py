"""Certificates of keys: what is stated is read back, in one spelling only, and its file holds what belongs to it."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.certificate import Certificate, Moment, NoCertificate, commits_to, committed
from broker.formats.certificate_file import CertificateFile, FileRefused
from broker.formats.ids import AuditEventId
from broker.formats.signed_note import NoteRefused, Signer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "certificates.json").read_text())
ACCEPTED = {one["name"]: one["text"] for one in VECTORS["accept"]}
REFUSED = {one["name"]: one["text"] for one in VECTORS["reject"]}
SIGNER = Signer(VECTORS["key"]["name"], bytes.fromhex(VECTORS["key"]["seed"]))
DEAD = ACCEPTED["a retired key that was used and shown"]
EVENT = AuditEventId("evt_" + "e" * 32)


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=list(ACCEPTED))
def test_what_is_stated_is_read_and_written_as_ever(text: str) -> None:
    assert Certificate.read(text).text() == text


@pytest.mark.parametrize("text", REFUSED.values(), ids=list(REFUSED))
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(NoCertificate):
        Certificate.read(text)


def test_there_are_vectors_of_every_line() -> None:
    lines = {line.partition(":")[0] for line in DEAD.splitlines()[1:]}
    assert len(lines) == 16
    assert {name.partition(":")[0] for name in REFUSED} >= lines


@pytest.mark.parametrize("one", VECTORS["commitments"], ids=lambda one: str(one["key"]))
def test_a_holder_of_the_key_knows_it_again_and_nobody_else(one: dict[str, str]) -> None:
    key, commitment = one["key"].encode(), base64.b64decode(one["commitment"])
    assert committed(key, bytes.fromhex(one["salt"])) == commitment
    assert commits_to(commitment, key)
    assert not commits_to(commitment, key + b"x")


def test_two_commitments_to_one_key_have_nothing_in_common() -> None:
    first, second = committed(b"a key"), committed(b"a key")
    assert first[:16] != second[:16]
    assert first[16:] != second[16:]


def test_the_next_statement_names_the_one_before() -> None:
    before = Certificate.read(DEAD)
    after = before.following(Moment(before.issued.time + 1, EVENT), destroyed=Moment(before.issued.time, EVENT))
    assert (after.serial, after.supersedes) == (before.serial + 1, before.digest())
    assert (after.answered, after.refused, after.statement) == (before.answered, before.refused, "dead")
    assert Certificate.read(after.text()) == after


def test_the_events_that_it_names_are_named_once() -> None:
    found = Certificate.read(DEAD).events()
    assert len(found) == len(set(found)) == 5  # its own, the end, the last use, the last showing, the refusal


def test_each_byte_of_a_certificate_counts() -> None:
    for place in range(len(DEAD)):
        changed = bytearray(DEAD.encode())
        changed[place] ^= 1
        with suppress(NoCertificate, UnicodeDecodeError):
            assert Certificate.read(changed.decode()).digest() != Certificate.read(DEAD).digest()


@given(st.text())
def test_any_text_can_be_read_or_is_refused(text: str) -> None:
    with suppress(NoCertificate):
        assert Certificate.read(text).text() == text


@given(st.sampled_from(DEAD.splitlines()), st.text(max_size=30))
def test_any_line_can_be_read_or_is_refused(line: str, other: str) -> None:
    text = DEAD.replace(line, line.partition(": ")[0] + ": " + other)
    with suppress(NoCertificate):
        assert Certificate.read(text).text() == text


def test_a_file_gives_back_the_note_byte_for_byte_and_its_receipts() -> None:
    (vector,) = VECTORS["files"]
    file = CertificateFile.decode(vector["file"].encode())
    assert file.encode() == vector["file"].encode()
    assert file.certificate(SIGNER.verifier()) == Certificate.read(DEAD)
    assert file.note == SIGNER.sign(DEAD)
    assert list(file.receipts) == [Certificate.read(DEAD).issued.event]


@pytest.mark.parametrize("one", VECTORS["files_rejected"], ids=lambda one: str(one["name"]))
def test_what_is_no_file_of_a_certificate_is_refused(one: dict[str, str]) -> None:
    with pytest.raises((FileRefused, NoteRefused, NoCertificate)):
        CertificateFile.decode(one["file"].encode()).certificate(SIGNER.verifier())


def test_a_file_that_is_no_text_or_too_long_is_refused() -> None:
    for file in (b"\xff", b'"' + b"x" * 2**20 + b'"'):
        with pytest.raises(FileRefused):
            CertificateFile.decode(file)
