"""Which steps a delivery and a webhook have in each of their states.  Pure and total.

::

    pending ──sent──▶ sent                  active ──the receiver is gone──▶ disabled
      │ ▲                                     │                                │
      │ └─────sent again──┐                   └──revoke──▶ revoked ◀──revoke───┘
      └──given up──▶ dead ┘

A try that failed leaves a delivery pending, until the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class DeliveryState(StrEnum):
    """Where one delivery stands."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"  # given up; an operator can have it sent again


class DeliveryStep(StrEnum):
    """What can happen to a delivery."""

    SEND = "send"
    POSTPONE = "postpone"
    GIVE_UP = "give_up"
    RESEND = "resend"


class WebhookState(StrEnum):
    """Where an endpoint stands."""

    ACTIVE = "active"
    DISABLED = "disabled"  # its receiver said that it is gone
    REVOKED = "revoked"  # by an operator


class WebhookStep(StrEnum):
    """What can happen to an endpoint."""

    DISABLE = "disable"
    REVOKE = "revoke"


_DELIVERIES: Mapping[DeliveryStep, Mapping[DeliveryState, DeliveryState]] = {
    DeliveryStep.SEND: {DeliveryState.PENDING: DeliveryState.SENT},
    DeliveryStep.POSTPONE: {DeliveryState.PENDING: DeliveryState.PENDING},
    DeliveryStep.GIVE_UP: {DeliveryState.PENDING: DeliveryState.DEAD},
    DeliveryStep.RESEND: {DeliveryState.DEAD: DeliveryState.PENDING},
}

_WEBHOOKS: Mapping[WebhookStep, Mapping[WebhookState, WebhookState]] = {
    WebhookStep.DISABLE: {WebhookState.ACTIVE: WebhookState.DISABLED},
    WebhookStep.REVOKE: dict.fromkeys((WebhookState.ACTIVE, WebhookState.DISABLED), WebhookState.REVOKED),
}


def delivery_after(state: DeliveryState, step: DeliveryStep) -> DeliveryState | None:
    """Where the step leads a delivery from this state; None if the state doesn't have it."""
    return _DELIVERIES[step].get(state)


def webhook_after(state: WebhookState, step: WebhookStep) -> WebhookState | None:
    """Where the step leads an endpoint from this state; None if the state doesn't have it."""
    return _WEBHOOKS[step].get(state)
