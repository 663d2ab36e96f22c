"""A rotation's states as a machine: whatever happens, it moves along its table, and what is over stays over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.lifecycle import Unlawful
from broker.credentials.rotation_lifecycle import RotationState, RotationStep, next_state

OVER = frozenset({RotationState.COMPLETED, RotationState.ROLLED_BACK, RotationState.CANCELLED})
BEFORE_USE = frozenset({RotationState.REQUESTED, RotationState.VERIFYING, RotationState.PENDING_REVIEW})
IN_USE = frozenset({RotationState.GRACE, RotationState.FAILING})

states, steps = st.sampled_from(RotationState), st.sampled_from(RotationStep)


@given(states, steps)
def test_every_step_of_every_state_leads_on_or_is_refused_by_its_name(state: RotationState, step: RotationStep) -> None:
    found = next_state(state, step)
    assert isinstance(found, RotationState) or found == Unlawful(f"{step}_from_{state}")
    assert found == next_state(state, step), "it is pure"
    assert found != state, "a step leads somewhere"


@given(st.lists(steps))
def test_a_rotation_begins_once_and_ends_once(taken: list[RotationStep]) -> None:
    present = RotationState.REQUESTED
    for step in taken:
        found = next_state(present, step)
        if isinstance(found, Unlawful):
            continue
        assert present not in OVER, "what is over stays over"
        assert not (present in IN_USE and found in BEFORE_USE), "a key that came into use isn't waited for again"
        present = found


def test_whatever_is_not_over_can_be_given_up() -> None:
    ways = {state: {next_state(state, step) for step in RotationStep} & set(RotationState) for state in RotationState}
    assert {state for state, out in ways.items() if not out} == OVER
    assert all(ways[state] & OVER for state in BEFORE_USE | IN_USE)


@given(states)
def test_a_promotion_is_an_activation_or_a_completion(state: RotationState) -> None:
    promoted = next_state(state, RotationStep.PROMOTE)
    if not isinstance(promoted, Unlawful):
        assert promoted in {next_state(state, RotationStep.ACTIVATE), next_state(state, RotationStep.COMPLETE)}


@given(states)
def test_what_would_begin_the_grace_window_completes_a_rotation_with_nothing_to_retire(state: RotationState) -> None:
    if not isinstance(next_state(state, RotationStep.ACTIVATE), Unlawful):
        assert next_state(state, RotationStep.COMPLETE) is RotationState.COMPLETED


def test_only_these_steps_are_lawful() -> None:
    found = {(state, step): next_state(state, step) for state in RotationState for step in RotationStep}
    assert {key: after for key, after in found.items() if not isinstance(after, Unlawful)} == {
        (RotationState.REQUESTED, RotationStep.SUBMIT): RotationState.VERIFYING,
        (RotationState.REQUESTED, RotationStep.CANCEL): RotationState.CANCELLED,
        (RotationState.REQUESTED, RotationStep.CANCEL_WITH_CREDENTIAL): RotationState.CANCELLED,
        (RotationState.VERIFYING, RotationStep.REFUSE): RotationState.REQUESTED,
        (RotationState.VERIFYING, RotationStep.HOLD): RotationState.PENDING_REVIEW,
        (RotationState.VERIFYING, RotationStep.ACTIVATE): RotationState.GRACE,
        (RotationState.VERIFYING, RotationStep.COMPLETE): RotationState.COMPLETED,
        (RotationState.VERIFYING, RotationStep.CANCEL): RotationState.CANCELLED,
        (RotationState.VERIFYING, RotationStep.CANCEL_WITH_CREDENTIAL): RotationState.CANCELLED,
        (RotationState.PENDING_REVIEW, RotationStep.REFUSE): RotationState.REQUESTED,
        (RotationState.PENDING_REVIEW, RotationStep.ACTIVATE): RotationState.GRACE,
        (RotationState.PENDING_REVIEW, RotationStep.PROMOTE): RotationState.GRACE,
        (RotationState.PENDING_REVIEW, RotationStep.COMPLETE): RotationState.COMPLETED,
        (RotationState.PENDING_REVIEW, RotationStep.CANCEL): RotationState.CANCELLED,
        (RotationState.PENDING_REVIEW, RotationStep.CANCEL_WITH_CREDENTIAL): RotationState.CANCELLED,
        (RotationState.GRACE, RotationStep.PROMOTE): RotationState.COMPLETED,
        (RotationState.GRACE, RotationStep.FAIL): RotationState.FAILING,
        (RotationState.GRACE, RotationStep.COMPLETE): RotationState.COMPLETED,
        (RotationState.GRACE, RotationStep.ROLL_BACK): RotationState.ROLLED_BACK,
        (RotationState.GRACE, RotationStep.CANCEL_WITH_CREDENTIAL): RotationState.CANCELLED,
        (RotationState.FAILING, RotationStep.RECOVER): RotationState.GRACE,
        (RotationState.FAILING, RotationStep.COMPLETE): RotationState.COMPLETED,
        (RotationState.FAILING, RotationStep.ROLL_BACK): RotationState.ROLLED_BACK,
        (RotationState.FAILING, RotationStep.CANCEL_WITH_CREDENTIAL): RotationState.CANCELLED,
    }


def test_refusals_keep_their_names() -> None:
    assert next_state(RotationState.REQUESTED, RotationStep.PROMOTE) == Unlawful("promote_from_requested")
    assert next_state(RotationState.PENDING_REVIEW, RotationStep.ROLL_BACK) == Unlawful("roll_back_from_held")
    assert next_state(RotationState.GRACE, RotationStep.CANCEL) == Unlawful("cancel_from_grace")
    assert next_state(RotationState.COMPLETED, RotationStep.SUBMIT) == Unlawful("submit_from_completed")
