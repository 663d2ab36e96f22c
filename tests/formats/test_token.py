"""Tokens are found by scanners, told from cut-off pastes, and leases' tokens cannot be forged."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats import ids, token

PREFIXES = ("kbo", "kbs", "kbe", "kbb", "kbc")
ALPHABET = string.ascii_letters + string.digits + "-_"
KEYS = st.binary(min_size=32, max_size=32)
LEASES = st.uuids().map(lambda value: ids.of(ids.LeaseId, value.bytes))


def another(letter: str) -> str:
    return "A" if letter != "A" else "B"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_new_token_is_one_of_its_prefix_and_of_no_other(prefix: str) -> None:
    made = token.new(prefix)
    assert len(made) == len("kbo_") + 43 + 6
    assert [kind for kind in PREFIXES if token.is_token(made, kind)] == [prefix]


@pytest.mark.parametrize("prefix", ["", "kb", "kbl", "KBO", "kbo_", "org"])
def test_an_unknown_prefix_makes_no_token(prefix: str) -> None:
    with pytest.raises(ValueError, match="no token prefix"):
        token.new(prefix)


def test_no_two_tokens_are_alike() -> None:
    assert len({token.new("kbo") for _ in range(1_000)}) == 1_000


def test_the_checksum_tells_a_mistyped_token_at_every_place() -> None:
    made = token.new("kbo")
    for place in range(len(made)):
        mistyped = made[:place] + another(made[place]) + made[place + 1 :]
        assert not token.is_token(mistyped, "kbo")


def test_a_cut_off_token_is_none() -> None:
    made = token.new("kbo")
    assert not any(token.is_token(made[:end], "kbo") for end in range(len(made)))
    assert not any(token.is_token(text, "kbo") for text in (made + "A", made + "\n", " " + made, made + "="))


def test_the_checksum_covers_the_prefix() -> None:
    made = token.new("kbo")
    assert not token.is_token("kbb" + made[3:], "kbb")


def test_what_is_stored_depends_on_the_whole_token_and_the_key() -> None:
    made = token.new("kbo")
    stored = token.keyed_hash(b"k" * 32, made)
    assert stored == token.keyed_hash(b"k" * 32, made)
    assert len({stored, token.keyed_hash(b"x" * 32, made), token.keyed_hash(b"k" * 32, made[:-1])}) == 3
    assert made.encode() not in stored


@given(KEYS, LEASES)
def test_a_lease_token_names_its_lease(key: bytes, lease: ids.LeaseId) -> None:
    made = token.lease_token(key, lease)
    assert made.startswith("kbl_")
    assert len(made) == len("kbl_") + 54
    assert token.lease_id_of(key, made) == lease
    assert token.lease_token(key, lease) == made


def test_a_lease_token_fits_the_ids_that_are_made() -> None:
    lease = ids.new(ids.LeaseId)
    named = token.lease_id_of(b"k" * 32, token.lease_token(b"k" * 32, lease))
    assert named == lease
    assert ids.is_id(named, ids.LeaseId)


@given(KEYS, KEYS, LEASES)
def test_a_lease_token_made_under_another_key_is_refused(key: bytes, other: bytes, lease: ids.LeaseId) -> None:
    named = token.lease_id_of(other, token.lease_token(key, lease))
    assert named == (lease if key == other else None)


@given(KEYS, LEASES, st.integers(0, 39), st.integers(0, 7))
def test_a_lease_token_with_any_bit_flipped_is_refused(key: bytes, lease: ids.LeaseId, place: int, bit: int) -> None:
    data = bytearray(base64.urlsafe_b64decode(token.lease_token(key, lease)[4:] + "=="))
    data[place] ^= 1 << bit
    forged = "kbl_" + base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert token.lease_id_of(key, forged) is None


@given(LEASES, st.binary(min_size=24, max_size=24))
def test_a_lease_id_with_a_guessed_tag_is_refused(lease: ids.LeaseId, tag: bytes) -> None:
    forged = "kbl_" + base64.urlsafe_b64encode(bytes.fromhex(lease[4:]) + tag).rstrip(b"=").decode()
    assert token.lease_id_of(b"k" * 32, forged) is None


@given(KEYS, LEASES)
def test_a_lease_token_has_one_spelling(key: bytes, lease: ids.LeaseId) -> None:
    made = token.lease_token(key, lease)
    # given: letters whose spare bits differ, so they decode to the same bytes
    spellings = [made[:-1] + letter for letter in ALPHABET]
    data = base64.urlsafe_b64decode(made[4:] + "==")
    assert sum(base64.urlsafe_b64decode(text[4:] + "==") == data for text in spellings) == 16
    # then: only the printed one speaks for the lease
    assert [text for text in spellings if token.lease_id_of(key, text) is not None] == [made]


def test_other_forms_of_a_lease_token_are_refused() -> None:
    made = token.lease_token(b"k" * 32, ids.new(ids.LeaseId))
    for text in (made + "=", made + "==", made + "\n", " " + made, made[4:], "kbo_" + made[4:], made[:-1], ""):
        assert token.lease_id_of(b"k" * 32, text) is None


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    assert not token.is_token(text, "kbo")
    assert token.lease_id_of(b"k" * 32, text) is None
