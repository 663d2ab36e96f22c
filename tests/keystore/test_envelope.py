"""A sealed value opens in its place only, and moves from master key to master key unchanged."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.secret import Secret
from broker.formats.envelope import Binding, Envelope
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.local import LocalKeyWrapper, MasterKeys

PLACE = Binding("credential", "org_a", "crd_a", 3, "stripe")
WORDS = st.text(max_size=6)
BINDINGS = st.builds(Binding, WORDS, WORDS, WORDS, st.integers(0, 2**40), WORDS)
OLD = MasterKeys({"old": Secret(secrets.token_bytes(32))}, "old")
NEW = MasterKeys({"new": Secret(secrets.token_bytes(32)), **OLD.keys}, "new")


def keystore(keys: MasterKeys) -> EnvelopeKeystore:
    return EnvelopeKeystore(LocalKeyWrapper(keys))


@given(st.binary(max_size=300), BINDINGS)
async def test_a_sealed_value_opens_in_its_place(value: bytes, place: Binding) -> None:
    store = keystore(OLD)
    sealed = await store.seal(Secret(value), place)
    assert (await store.open(sealed, place)).reveal() == value
    assert len(value) < 8 or value not in sealed


async def test_equal_values_seal_to_different_bytes() -> None:
    store = keystore(OLD)
    made = [Envelope.decode(await store.seal(Secret(b"value"), PLACE)) for _ in range(20)]
    assert len({parts.wrapped_key for parts in made}) == len({parts.ciphertext for parts in made}) == 20


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, purpose="intake-private-key"),
        replace(PLACE, organization="org_b"),
        replace(PLACE, organization=""),
        replace(PLACE, credential="crd_b"),
        replace(PLACE, version=4),
        replace(PLACE, provider="github"),
        replace(PLACE, organization=PLACE.credential, credential=PLACE.organization),
        replace(PLACE, organization="org_acrd_a", credential=""),
    ],
)
async def test_a_value_moved_to_another_place_does_not_open(elsewhere: Binding) -> None:
    store = keystore(NEW)
    sealed = await store.seal(Secret(b"value"), PLACE)
    with pytest.raises(CannotOpen):
        await store.open(sealed, elsewhere)


@given(BINDINGS, BINDINGS)
async def test_a_value_opens_in_equal_places_alone(place: Binding, other: Binding) -> None:
    store = keystore(OLD)
    sealed = await store.seal(Secret(b"value"), place)
    if place == other:
        assert (await store.open(sealed, other)).reveal() == b"value"
    else:
        with pytest.raises(CannotOpen):
            await store.open(sealed, other)


async def test_a_value_moved_to_another_place_is_not_rewrapped() -> None:
    sealed = await keystore(OLD).seal(Secret(b"value"), PLACE)
    with pytest.raises(CannotOpen):
        await keystore(NEW).rewrap(sealed, replace(PLACE, organization="org_b"))


async def test_a_data_key_does_not_open_the_value_of_another() -> None:
    # given: two values of one place, one's data key put in front of the other's value
    store = keystore(OLD)
    one, other = [Envelope.decode(await store.seal(Secret(text), PLACE)) for text in (b"one", b"two")]
    with pytest.raises(CannotOpen):
        await store.open(one._replace(wrapped_key=other.wrapped_key).encode(), PLACE)


async def test_a_data_key_does_not_unwrap_under_the_name_of_another_master_key() -> None:
    # given: one master key under two names
    twice = MasterKeys({"old": OLD.keys["old"], "alias": OLD.keys["old"]}, "old")
    parts = Envelope.decode(await keystore(OLD).seal(Secret(b"value"), PLACE))
    with pytest.raises(CannotOpen):
        await keystore(twice).open(parts._replace(kek_id="alias").encode(), PLACE)


async def test_a_value_that_is_cut_off_anywhere_does_not_open() -> None:
    store = keystore(OLD)
    sealed = await store.seal(Secret(b"value"), PLACE)
    for end in range(len(sealed)):
        with pytest.raises(CannotOpen):
            await store.open(sealed[:end], PLACE)


async def test_a_bit_flipped_anywhere_does_not_open() -> None:
    store = keystore(OLD)
    sealed = await store.seal(Secret(b"value"), PLACE)
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        # A changed key id names a master key that nobody has: the operator's to fix, and nothing opens either.
        with pytest.raises((CannotOpen, KeystoreUnavailable)):
            await store.open(bytes(altered), PLACE)


@given(st.binary(max_size=200))
async def test_bytes_that_nobody_sealed_do_not_open(data: bytes) -> None:
    with pytest.raises((CannotOpen, KeystoreUnavailable)):
        await keystore(OLD).open(data, PLACE)


async def test_an_unknown_master_key_is_the_operators_to_fix() -> None:
    sealed = await keystore(NEW).seal(Secret(b"value"), PLACE)
    for work in (keystore(OLD).open, keystore(OLD).rewrap):
        with pytest.raises(KeystoreUnavailable, match="operator must restore") as caught:
            await work(sealed, PLACE)
        assert caught.value.status == 503


async def test_a_master_key_of_the_same_name_and_other_bytes_opens_nothing() -> None:
    sealed = await keystore(OLD).seal(Secret(b"value"), PLACE)
    with pytest.raises(CannotOpen):
        await keystore(MasterKeys({"old": Secret(secrets.token_bytes(32))}, "old")).open(sealed, PLACE)


async def test_rewrapping_keeps_the_value_and_lets_the_old_master_key_go() -> None:
    sealed = await keystore(OLD).seal(Secret(b"value"), PLACE)
    # when
    moved = await keystore(NEW).rewrap(sealed, PLACE)
    # then: under the active key, with nothing but the wrapping changed
    assert moved is not None
    before, after = Envelope.decode(sealed), Envelope.decode(moved)
    assert (before.kek_id, after.kek_id) == ("old", "new")
    assert (before.nonce, before.ciphertext) == (after.nonce, after.ciphertext)
    assert before.wrapped_key != after.wrapped_key
    # and: it opens without the old key, in its place only
    store = keystore(NEW.without("old"))
    assert (await store.open(moved, PLACE)).reveal() == b"value"
    with pytest.raises(CannotOpen):
        await store.open(moved, replace(PLACE, version=4))


async def test_rewrapping_leaves_alone_what_the_active_key_wraps_already() -> None:
    store = keystore(NEW)
    assert await store.rewrap(await store.seal(Secret(b"value"), PLACE), PLACE) is None


@given(st.binary(max_size=100))
async def test_rewrapping_refuses_what_nobody_sealed(data: bytes) -> None:
    with pytest.raises((CannotOpen, KeystoreUnavailable)):
        await keystore(OLD).rewrap(data, PLACE)
