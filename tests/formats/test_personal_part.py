"""A personal part opens with all keys of its data subjects, and for its own event, or not at all."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.audit_event import commitment_of
from broker.formats.personal_part import Clear, NotOpened, PartKey, day_of, unwrap, wrap

KEY = st.binary(min_size=32, max_size=32)
PART = st.binary(max_size=300)
ACTOR, ORGANIZATION, ACCOUNT, SALT = (bytes([number]) * 32 for number in range(1, 5))
PERSONAL = b'{"actor_name":"ada"}'
CP = commitment_of(PERSONAL, SALT)
SEALED = PartKey(ACTOR, ORGANIZATION, ACCOUNT, 7).seal(PERSONAL, SALT, CP)


@given(KEY, KEY, KEY, st.integers(0, 2**40), PART, KEY)
def test_what_was_sealed_opens(
    actor: bytes, organization: bytes, account: bytes, day: int, part: bytes, salt: bytes
) -> None:
    cp = commitment_of(part, salt)
    sealed = PartKey(actor, organization, account, day).seal(part, salt, cp)
    assert PartKey(actor, organization, account, day).opened(sealed, cp) == Clear(part, salt)
    assert not part or len(part) < 4 or part not in sealed


@pytest.mark.parametrize(
    "keys",
    [
        (ORGANIZATION, ACTOR, ACCOUNT, 7),
        (ACTOR, ACCOUNT, ORGANIZATION, 7),
        (ACTOR, ORGANIZATION, bytes(32), 7),
        (ACTOR, bytes(32), ACCOUNT, 7),
        (bytes(32), ORGANIZATION, ACCOUNT, 7),
        (ACTOR, ORGANIZATION, ACCOUNT, 8),
    ],
)
def test_without_any_one_of_its_keys_it_does_not_open(keys: tuple[Any, ...]) -> None:
    with pytest.raises(NotOpened):
        PartKey(*keys).opened(SEALED, CP)


@pytest.mark.parametrize("place", range(len(SEALED)))
def test_a_changed_byte_is_refused(place: int) -> None:
    changed = bytearray(SEALED)
    changed[place] ^= 1
    with pytest.raises(NotOpened):
        PartKey(ACTOR, ORGANIZATION, ACCOUNT, 7).opened(bytes(changed), CP)


@pytest.mark.parametrize("bad", [b"", b"\x01", b"\x02" + SEALED[1:], SEALED[:-1], SEALED + b"\0", SEALED[1:]])
def test_bytes_of_another_form_are_refused(bad: bytes) -> None:
    with pytest.raises(NotOpened):
        PartKey(ACTOR, ORGANIZATION, ACCOUNT, 7).opened(bad, CP)


def test_a_part_that_is_moved_to_another_event_is_refused() -> None:
    with pytest.raises(NotOpened):
        PartKey(ACTOR, ORGANIZATION, ACCOUNT, 7).opened(SEALED, CP[:12] + bytes(20))


def test_the_sealed_part_is_that_of_the_specification() -> None:
    assert SEALED.hex() == (
        "01adbdde0abe8e1409b1df7ce850cb7e976560a38789c6c37507c9163f52e33dad8d2196836ad4e0a15211806076eac92872"
        "de82861a57e0c80695284be5072e5a775dda28"
    )


def test_a_wrapped_key_is_its_subjects_alone() -> None:
    wrapping = os.urandom(32)
    wrapped = wrap(wrapping, "opr_1", ACTOR)
    assert unwrap(wrapping, "opr_1", wrapped) == ACTOR
    assert wrap(wrapping, "opr_1", ACTOR) != wrapped
    changed = [bytes([*wrapped[:place], wrapped[place] ^ 1, *wrapped[place + 1 :]]) for place in range(len(wrapped))]
    for bad in (b"", b"\x01", wrapped[:-1], wrapped[1:], *changed):
        with pytest.raises(NotOpened):
            unwrap(wrapping, "opr_1", bad)
    for key, name in ((wrapping, "opr_2"), (os.urandom(32), "opr_1")):
        with pytest.raises(NotOpened):
            unwrap(key, name, wrapped)


def test_a_day_is_one_of_utc() -> None:
    assert [day_of(time) for time in (0, 86_399_999, 86_400_000)] == [0, 0, 1]
