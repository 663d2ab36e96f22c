"""What is revoked stays revoked, since the first time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from broker.base.clock import Millis
from broker.base.validity import Validity, revoke


@dataclass
class Row:
    """What is active or revoked."""

    state: str = Validity.ACTIVE
    revoked_at: Millis | None = None


@given(st.lists(st.integers(min_value=0).map(Millis), min_size=1))
def test_a_revocation_is_for_good_and_keeps_its_time(times: list[Millis]) -> None:
    row = Row()
    assert [revoke(row, now) for now in times] == [True, *[False] * (len(times) - 1)]
    assert (row.state, row.revoked_at) == (Validity.REVOKED, times[0])


def test_states_are_stored_as_their_words() -> None:
    assert [str(each) for each in Validity] == ["active", "revoked"]
