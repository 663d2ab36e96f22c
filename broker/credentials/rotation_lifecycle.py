"""Which steps a rotation has in each of its states.

Pure and total: every other step is refused by its name.

::

    requested ──a key comes──▶ verifying ──same organization──▶ grace ──retired──▶ completed
        ▲                        │   │                          ▲  │ ▲
        └──bad or foreign key────┘   └─unproven─▶ held ─promote─┘  ▼ │ the upstream refuses / takes the new key
                                                                failing
    requested, verifying, held ──cancel──▶ cancelled          grace, failing ──roll back──▶ rolled_back

A held key that is cut off leaves its rotation ``requested`` again.  If no old key is left to retire, the step to
``grace`` completes the rotation.  Its credential's revocation cancels it in any state but the last three.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from broker.credentials.lifecycle import Unlawful


class RotationState(StrEnum):
    """Where a rotation stands.

    Versions have their own states (:class:`~broker.credentials.lifecycle.State`).
    """

    REQUESTED = "requested"
    VERIFYING = "verifying"
    PENDING_REVIEW = "held"  # the new key works, and an operator decides whether it is the same organization's
    GRACE = "grace"  # the new key is in use, and the old one still works
    FAILING = "failing"  # likewise, and the upstream refuses the new key
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"


class RotationStep(StrEnum):
    """What can happen to a rotation."""

    SUBMIT = "submit"
    REFUSE = "refuse"  # the new key is not good, or was cut off: another one can come
    HOLD = "hold"
    ACTIVATE = "activate"  # the new key comes into use beside the old one
    PROMOTE = "promote"  # an operator's: a held key comes into use, or the grace window ends
    FAIL = "fail"
    RECOVER = "recover"
    COMPLETE = "complete"  # no old key is left
    ROLL_BACK = "roll_back"
    CANCEL = "cancel"
    CANCEL_WITH_CREDENTIAL = "abandon"  # its credential was revoked as a whole


_NEXT: Mapping[RotationStep, Mapping[RotationState, RotationState]] = {
    RotationStep.SUBMIT: {RotationState.REQUESTED: RotationState.VERIFYING},
    RotationStep.REFUSE: dict.fromkeys(
        (RotationState.VERIFYING, RotationState.PENDING_REVIEW), RotationState.REQUESTED
    ),
    RotationStep.HOLD: {RotationState.VERIFYING: RotationState.PENDING_REVIEW},
    RotationStep.ACTIVATE: dict.fromkeys((RotationState.VERIFYING, RotationState.PENDING_REVIEW), RotationState.GRACE),
    RotationStep.PROMOTE: {
        RotationState.PENDING_REVIEW: RotationState.GRACE,
        RotationState.GRACE: RotationState.COMPLETED,
    },
    RotationStep.FAIL: {RotationState.GRACE: RotationState.FAILING},
    RotationStep.RECOVER: {RotationState.FAILING: RotationState.GRACE},
    RotationStep.COMPLETE: dict.fromkeys(
        (RotationState.VERIFYING, RotationState.PENDING_REVIEW, RotationState.GRACE, RotationState.FAILING),
        RotationState.COMPLETED,
    ),
    RotationStep.ROLL_BACK: dict.fromkeys((RotationState.GRACE, RotationState.FAILING), RotationState.ROLLED_BACK),
    RotationStep.CANCEL: dict.fromkeys(
        (RotationState.REQUESTED, RotationState.VERIFYING, RotationState.PENDING_REVIEW), RotationState.CANCELLED
    ),
    RotationStep.CANCEL_WITH_CREDENTIAL: dict.fromkeys(
        (
            RotationState.REQUESTED,
            RotationState.VERIFYING,
            RotationState.PENDING_REVIEW,
            RotationState.GRACE,
            RotationState.FAILING,
        ),
        RotationState.CANCELLED,
    ),
}


def next_state(state: RotationState, step: RotationStep) -> RotationState | Unlawful:
    """Where the step leads from this state, or the name by which it is refused.

    Such a name is ``promote_from_requested``.
    """
    return _NEXT[step].get(state) or Unlawful(f"{step}_from_{state}")
