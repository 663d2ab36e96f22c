"""A request's states as a machine: whatever happens, it moves along its table, and what goes along with that does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.clock import Millis
from broker.intake.lifecycle import SPENT, IntakeState, IntakeStep, can, close, next_state, reopen, submitted
from broker.intake.tables import IntakeRow

ANSWERED = frozenset({IntakeState.ACCEPTED, IntakeState.CANCELLED})
REOPENS = (IntakeStep.REFUSE, IntakeStep.REPLACE_LINK)

states, steps = st.sampled_from(IntakeState), st.sampled_from(IntakeStep)


@given(states, steps)
def test_every_step_of_every_state_leads_to_a_state_or_nowhere(state: IntakeState, step: IntakeStep) -> None:
    found = next_state(state, step)
    assert found is None or isinstance(found, IntakeState)
    assert found == next_state(state, step), "it is pure"


def test_what_is_accepted_or_cancelled_stays_so_and_nothing_else_does() -> None:
    ends = {state for state in IntakeState if all(next_state(state, step) in {None, state} for step in IntakeStep)}
    assert ends == ANSWERED
    assert all(next_state(state, step) is None for state in ends for step in IntakeStep)


def test_only_these_steps_are_lawful() -> None:
    found = {(state, step): next_state(state, step) for state in IntakeState for step in IntakeStep}
    assert {key: after for key, after in found.items() if after is not None} == {
        (IntakeState.OPEN, IntakeStep.SUBMIT): IntakeState.VERIFYING,
        (IntakeState.OPEN, IntakeStep.REFUSE): IntakeState.OPEN,
        (IntakeState.OPEN, IntakeStep.CUT_OFF): IntakeState.EXPIRED,
        (IntakeState.OPEN, IntakeStep.REPLACE_LINK): IntakeState.OPEN,
        (IntakeState.OPEN, IntakeStep.CANCEL): IntakeState.CANCELLED,
        (IntakeState.OPEN, IntakeStep.GIVE_UP): IntakeState.CANCELLED,
        (IntakeState.OPEN, IntakeStep.EXPIRE): IntakeState.EXPIRED,
        (IntakeState.VERIFYING, IntakeStep.ACCEPT): IntakeState.ACCEPTED,
        (IntakeState.VERIFYING, IntakeStep.HOLD): IntakeState.PENDING_REVIEW,
        (IntakeState.VERIFYING, IntakeStep.REFUSE): IntakeState.OPEN,
        (IntakeState.VERIFYING, IntakeStep.CUT_OFF): IntakeState.EXPIRED,
        (IntakeState.VERIFYING, IntakeStep.GIVE_UP): IntakeState.CANCELLED,
        (IntakeState.PENDING_REVIEW, IntakeStep.ACCEPT): IntakeState.ACCEPTED,
        (IntakeState.PENDING_REVIEW, IntakeStep.CUT_OFF): IntakeState.EXPIRED,
        (IntakeState.PENDING_REVIEW, IntakeStep.GIVE_UP): IntakeState.CANCELLED,
        (IntakeState.EXPIRED, IntakeStep.REPLACE_LINK): IntakeState.OPEN,
        (IntakeState.EXPIRED, IntakeStep.CUT_OFF): IntakeState.EXPIRED,
    }


def test_a_spent_link_is_one_over_which_a_key_came() -> None:
    assert {state for state in IntakeState if next_state(state, IntakeStep.REPLACE_LINK)} == {
        IntakeState.OPEN,
        IntakeState.EXPIRED,
    }
    assert set(IntakeState) - SPENT == {IntakeState.OPEN, IntakeState.EXPIRED, IntakeState.CANCELLED}


@given(st.lists(steps))
def test_a_private_key_is_there_just_while_a_submission_may_have_to_be_opened(taken: list[IntakeStep]) -> None:
    row = IntakeRow(id="int_1", state=IntakeState.OPEN, private_sealed=b"sealed", refusal="")
    for now, step in enumerate(taken):
        at = Millis(now)
        if not can(row, step):
            continue
        if step is IntakeStep.SUBMIT:
            submitted(row, at)
            assert (row.submitted_at, row.refusal) == (now, "")
        elif step in REOPENS:
            if step is IntakeStep.REPLACE_LINK:
                row.private_sealed = b"sealed again"
            reopen(row, step)
            assert row.settled_at is None
        else:
            close(row, step, at)
            assert row.settled_at == now
        assert (row.private_sealed is not None) == (row.state in {IntakeState.OPEN, IntakeState.VERIFYING})


@given(states, steps)
def test_a_step_that_the_state_lacks_changes_nothing(state: IntakeState, step: IntakeStep) -> None:
    row = IntakeRow(id="int_1", state=state, private_sealed=b"sealed", settled_at=1)
    if not can(row, step):
        with pytest.raises(ValueError, match=f"a request that is {state} has no step {step}"):
            close(row, step, Millis(2))
        with pytest.raises(ValueError, match=f"a request that is {state} has no step {step}"):
            reopen(row, step)
        assert (row.state, row.private_sealed, row.settled_at) == (state, b"sealed", 1)


@given(states)
def test_only_an_open_request_takes_a_key(state: IntakeState) -> None:
    row = IntakeRow(id="int_1", state=state, refusal="bad_key")
    if state is not IntakeState.OPEN:
        with pytest.raises(ValueError, match=f"a request that is {state} has no step submit"):
            submitted(row, Millis(2))
        assert (row.state, row.submitted_at, row.refusal) == (state, None, "bad_key")
