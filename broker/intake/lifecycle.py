"""Which steps a request for a key has in each of its states, and what a step changes.

::

    open ──a key comes──▶ verifying ──works──▶ accepted
     ▲ ▲                    │   │                 ▲
     │ └──refused, cut off──┘   └─unproven─▶ held ┘ (an operator decides)
     │
     └──a new link── expired ◀── open (it, its rotation or credential has ended), verifying, held (its key is cut off)

    open ──cancel──▶ cancelled          open, verifying, held ──given up with its rotation──▶ cancelled

:func:`next_state` is pure and total.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from broker.base.clock import Millis
from broker.intake.tables import IntakeRow


class IntakeState(StrEnum):
    """Where a request stands."""

    OPEN = "open"
    VERIFYING = "verifying"  # a key is sealed and waits for the upstream's answer
    PENDING_REVIEW = "held"  # the key works, and an operator decides
    ACCEPTED = "accepted"
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # a new link opens it again


class IntakeStep(StrEnum):
    """What can happen to a request."""

    SUBMIT = "submit"
    ACCEPT = "accept"
    HOLD = "hold"
    REFUSE = "refuse"  # its key is not good, or was cut off, and its link still works
    CUT_OFF = "cut_off"  # its key was cut off, and its link doesn't work any more
    REPLACE_LINK = "replace_link"
    CANCEL = "cancel"
    GIVE_UP = "give_up"  # with its rotation
    EXPIRE = "expire"


SPENT = frozenset({IntakeState.VERIFYING, IntakeState.PENDING_REVIEW, IntakeState.ACCEPTED})

_NEXT: Mapping[IntakeStep, Mapping[IntakeState, IntakeState]] = {
    IntakeStep.SUBMIT: {IntakeState.OPEN: IntakeState.VERIFYING},
    IntakeStep.ACCEPT: dict.fromkeys((IntakeState.VERIFYING, IntakeState.PENDING_REVIEW), IntakeState.ACCEPTED),
    IntakeStep.HOLD: {IntakeState.VERIFYING: IntakeState.PENDING_REVIEW},
    # A rotation's key can come another way while its request is open, or expired: the broker found it sealed.
    IntakeStep.REFUSE: dict.fromkeys((IntakeState.OPEN, IntakeState.VERIFYING), IntakeState.OPEN),
    IntakeStep.CUT_OFF: dict.fromkeys(
        (IntakeState.OPEN, IntakeState.VERIFYING, IntakeState.PENDING_REVIEW, IntakeState.EXPIRED), IntakeState.EXPIRED
    ),
    IntakeStep.REPLACE_LINK: dict.fromkeys((IntakeState.OPEN, IntakeState.EXPIRED), IntakeState.OPEN),
    IntakeStep.CANCEL: {IntakeState.OPEN: IntakeState.CANCELLED},
    IntakeStep.GIVE_UP: dict.fromkeys(
        (IntakeState.OPEN, IntakeState.VERIFYING, IntakeState.PENDING_REVIEW), IntakeState.CANCELLED
    ),
    IntakeStep.EXPIRE: {IntakeState.OPEN: IntakeState.EXPIRED},
}


def next_state(state: IntakeState, step: IntakeStep) -> IntakeState | None:
    """Where the step leads from this state; None if the state doesn't have it."""
    return _NEXT[step].get(state)


def can(row: IntakeRow, step: IntakeStep) -> bool:
    """Whether a request has this step now."""
    return next_state(IntakeState(row.state), step) is not None


def submitted(row: IntakeRow, now: Millis) -> None:
    """A key came over its link; raises ValueError if it is not open."""
    row.state, row.submitted_at, row.refusal = _after(row, IntakeStep.SUBMIT), now, ""


def close(row: IntakeRow, step: IntakeStep, now: Millis) -> None:
    """Settle a request by this step.

    No submission can be opened any more, as its private key is erased.

    Raises:
        ValueError: its state doesn't have the step.
    """
    row.state, row.private_sealed, row.settled_at = _after(row, step), None, now


def reopen(row: IntakeRow, step: IntakeStep) -> None:
    """Let a request take another key, by its present private key; raises ValueError likewise."""
    row.state, row.settled_at = _after(row, step), None


def _after(row: IntakeRow, step: IntakeStep) -> IntakeState:
    after = next_state(IntakeState(row.state), step)
    if after is None:
        raise ValueError(f"a request that is {row.state} has no step {step}")
    return after
