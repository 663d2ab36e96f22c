"""States of deliveries and webhooks as machines: whatever happens, they move along their tables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.notifications.lifecycle import (
    DeliveryState,
    DeliveryStep,
    WebhookState,
    WebhookStep,
    delivery_after,
    webhook_after,
)


@given(st.sampled_from(DeliveryState), st.sampled_from(DeliveryStep))
def test_every_step_of_a_delivery_leads_to_a_state_or_nowhere(state: DeliveryState, step: DeliveryStep) -> None:
    found = delivery_after(state, step)
    assert found is None or isinstance(found, DeliveryState)
    assert found == delivery_after(state, step), "it is pure"


@given(st.sampled_from(WebhookState), st.sampled_from(WebhookStep))
def test_every_step_of_a_webhook_leads_to_a_state_or_nowhere(state: WebhookState, step: WebhookStep) -> None:
    found = webhook_after(state, step)
    assert found is None or isinstance(found, WebhookState)
    assert found == webhook_after(state, step), "it is pure"


def test_what_was_sent_stays_so_and_what_is_dead_goes_on_only_by_being_sent_again() -> None:
    found = {(state, step): delivery_after(state, step) for state in DeliveryState for step in DeliveryStep}
    assert {key: after for key, after in found.items() if after is not None} == {
        (DeliveryState.PENDING, DeliveryStep.SEND): DeliveryState.SENT,
        (DeliveryState.PENDING, DeliveryStep.POSTPONE): DeliveryState.PENDING,
        (DeliveryState.PENDING, DeliveryStep.GIVE_UP): DeliveryState.DEAD,
        (DeliveryState.DEAD, DeliveryStep.RESEND): DeliveryState.PENDING,
    }


def test_a_webhook_out_of_use_never_comes_into_use_again() -> None:
    found = {(state, step): webhook_after(state, step) for state in WebhookState for step in WebhookStep}
    assert {key: after for key, after in found.items() if after is not None} == {
        (WebhookState.ACTIVE, WebhookStep.DISABLE): WebhookState.DISABLED,
        (WebhookState.ACTIVE, WebhookStep.REVOKE): WebhookState.REVOKED,
        (WebhookState.DISABLED, WebhookStep.REVOKE): WebhookState.REVOKED,
    }
