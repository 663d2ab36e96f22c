"""A link's secret tells a cut-off link from a wrong one, and its proof gives nothing away."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats import linksecret
from tests.support import changed_links

SECRETS = st.binary(min_size=20, max_size=20)


@given(SECRETS)
def test_a_whole_secret_is_whole(secret: bytes) -> None:
    text = linksecret.encode(secret)
    assert len(text) == 32
    assert linksecret.check(text)
    assert base64.urlsafe_b64decode(text)[:20] == secret


def test_fresh_secrets_are_whole_and_differ() -> None:
    made = {linksecret.new() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(linksecret.check(text) for text in made)


@given(SECRETS)
def test_a_cut_off_secret_is_told_apart(secret: bytes) -> None:
    text = linksecret.encode(secret)
    assert not any(linksecret.check(text[:end]) for end in range(32))
    assert not any(linksecret.check(text[start:]) for start in range(1, 33))


def test_a_mistyped_secret_is_told_apart_at_every_place() -> None:
    text = linksecret.encode(bytes(range(20)))
    for place in range(32):
        letter = "A" if text[place] != "A" else "B"
        assert not linksecret.check(text[:place] + letter + text[place + 1 :])


@pytest.mark.parametrize("extra", ["\n", " ", "=", "A", ".", "é"])
def test_a_secret_with_something_added_is_told_apart(extra: str) -> None:
    text = linksecret.encode(bytes(range(20)))
    assert not linksecret.check(text + extra)
    assert not linksecret.check(extra + text)
    assert not linksecret.check(text[:-1] + extra)


@given(SECRETS)
def test_a_secret_is_found_in_whatever_became_of_its_link(secret: bytes) -> None:
    text = linksecret.encode(secret)
    for end in changed_links.kept(text) + changed_links.sent(text):
        assert linksecret.find(end) == text, end


@given(SECRETS, st.integers(0, 31))
def test_a_link_that_lost_or_changed_a_character_holds_no_secret(secret: bytes, place: int) -> None:
    text = linksecret.encode(secret)
    shorter = f"#{text[:place]}{text[place + 1 :]}?utm_source=a-long-campaign-of-ours"
    assert linksecret.find(shorter) is None
    assert linksecret.cut_off(shorter)
    changed = f"#{text[:place]}{'A' if text[place] != 'A' else 'B'}{text[place + 1 :]}"
    assert linksecret.find(changed) is None
    assert not linksecret.cut_off(changed)


@given(st.text() | st.text("%23abcABC-_?#&", max_size=5_000))
def test_any_text_can_be_searched(text: str) -> None:
    assert linksecret.find(text) is None


@pytest.mark.parametrize("length", [0, 19, 21, 32])
def test_only_twenty_bytes_make_a_secret(length: int) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        linksecret.encode(bytes(length))


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    assert not linksecret.check(text)


@given(SECRETS, SECRETS)
def test_each_secret_has_a_proof_of_its_own_that_does_not_hold_it(one: bytes, other: bytes) -> None:
    text = linksecret.encode(one)
    proof = linksecret.proof(text)
    assert len(proof) == 43
    assert text not in proof
    assert not linksecret.check(proof)
    assert (proof == linksecret.proof(linksecret.encode(other))) == (one == other)


def test_the_bytes_are_those_of_the_specification() -> None:
    secret = bytes(range(20))
    checksum = hashlib.sha256(b"keybroker/link/v1" + secret).digest()[:4]
    text = base64.urlsafe_b64encode(secret + checksum).decode()
    assert linksecret.encode(secret) == text
    asked = b"\0\0\0\x17keybroker/link-proof/v1" + b"\0\0\0\x20" + text.encode()
    proof = base64.urlsafe_b64encode(hashlib.sha256(asked).digest()).decode().rstrip("=")
    assert linksecret.proof(text) == proof
