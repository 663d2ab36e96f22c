"""Signed notes: the example that Go's implementation has published, what is refused, and whose lines count."""

from __future__ import annotations

import base64

import pytest

from broker.formats.signed_note import KeyUnreadable, NoteRefused, Signer, Verifier, opened

# Of golang.org/x/mod/sumdb/note.
SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
NOTE = f"{TEXT}\n{LINE}".encode()
SIGNER = Signer("PeterNeumann", SEED)
VERIFIER = Verifier.read(KEY)


def test_a_note_and_its_key_are_those_that_others_make() -> None:
    assert SIGNER.verifier() == VERIFIER
    assert VERIFIER.line() == KEY
    assert SIGNER.sign(TEXT) == NOTE
    assert opened(NOTE, VERIFIER) == TEXT


def test_a_text_may_have_empty_lines() -> None:
    text = "one\n\ntwo\n\n"
    assert opened(SIGNER.sign(text), VERIFIER) == text


def test_lines_of_other_keys_are_no_concern() -> None:
    other = Signer("other.example/log", bytes(32)).sign(TEXT).rpartition(b"\n\n")[2]
    assert opened(NOTE + other, VERIFIER) == TEXT
    assert opened(f"{TEXT}\n".encode() + other + LINE.encode(), VERIFIER) == TEXT
    with pytest.raises(NoteRefused, match="not signed by this key"):
        opened(f"{TEXT}\n".encode() + other, VERIFIER)


def test_a_line_of_this_key_that_is_wrong_is_not_outweighed() -> None:
    wrong = SIGNER.sign("another text\n").rpartition(b"\n\n")[2]
    with pytest.raises(NoteRefused, match="signature is wrong"):
        opened(NOTE + wrong, VERIFIER)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        TEXT.encode(),
        NOTE[:-1],
        NOTE + b"\n",
        NOTE + b"more\n",
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace(b"\xe2\x80\x94", b"-"),
        NOTE.replace(b"think", b"th\xffnk"),
        NOTE.replace(b"think", b"th\tnk"),
        NOTE.replace(b"x08go", b"x08g "),
        NOTE.replace(b"nAM=", b"nAN="),
        f"{TEXT}\n— PeterNeumann x08g\n".encode(),
        f"{TEXT}\n{LINE * 17}".encode(),
        f"{'x' * 70_000}\n\n{LINE}".encode(),
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(NoteRefused):
        opened(note, VERIFIER)


def test_no_byte_of_a_note_can_be_another() -> None:
    for place in range(len(NOTE)):
        changed = bytearray(NOTE)
        changed[place] ^= 1
        with pytest.raises(NoteRefused):
            opened(bytes(changed), VERIFIER)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "PeterNeumann",
        KEY.replace("c74f20a3", "c74f20a4"),
        KEY.replace("c74f20a3", "C74F20A3"),
        KEY.replace("PeterNeumann", "PeterN"),
        KEY.replace("PeterNeumann", "Peter Neumann"),
        KEY.replace("ARpc", "AhRpc"),
        KEY[:-4],
        KEY + "\n",
        f"+{KEY}",
    ],
)
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(KeyUnreadable):
        Verifier.read(line)


@pytest.mark.parametrize(("name", "text"), [("a b", "x\n"), ("a+b", "x\n"), ("", "x\n"), ("a", "x"), ("a", "\0\n")])
def test_what_no_note_can_hold_is_not_signed(name: str, text: str) -> None:
    with pytest.raises(ValueError, match="no note"):
        Signer(name, SEED).sign(text)


def test_a_signer_does_not_show_its_key() -> None:
    assert SEED.hex() not in repr(SIGNER)
    assert repr(SEED) not in repr(SIGNER)
