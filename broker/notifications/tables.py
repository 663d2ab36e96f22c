"""Rows of notices, of who is notified where, and of each delivery."""

from __future__ import annotations

from sqlalchemy import JSON, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned, partial
from broker.formats.envelope import Binding
from broker.formats.ids import CredentialId, DeliveryId, NoticeId, OrganizationId, WebhookId
from broker.keystore.columns import sealed_column


class NoticeRow(TenantOwned, Table):
    """One notice: ``kind`` says what happened, the other columns to what.

    It is written with what happened: the outbox.  ``contact`` is the customer's address if they are notified too.
    ``fanned_out_at`` is set once everybody who has to be notified has a delivery.
    """

    __tablename__ = "notices"
    __table_args__ = (
        UniqueConstraint("organization_id", "dedup"),
        partial("ix_notices_unsent", "fanned_out_at IS NULL", "id"),
        Index("ix_notices_organization", "organization_id", "id"),
        Index("ix_notices_kind", "kind", "id"),
    )

    id: Mapped[NoticeId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    kind: Mapped[str]
    credential_id: Mapped[CredentialId]
    version: Mapped[int]
    provider: Mapped[str]
    contact: Mapped[str] = mapped_column(server_default="")
    dedup: Mapped[str]
    facts: Mapped[dict[str, str | int]] = mapped_column(JSON, server_default="{}")
    fanned_out_at: Mapped[Millis | None]
    created_at: Mapped[Millis]


class WebhookRow(TenantOwned, Table):
    """Where notices are posted.  ``organization_id`` empty stands for every organization.

    The URL is sealed, as some are secrets by themselves (Slack's); ``shown`` is its host and last characters.
    ``previous_sealed`` signs too until ``previous_until``, so that a receiver can change its secret at leisure.
    """

    __tablename__ = "webhooks"
    __table_args__ = (
        Index("ix_webhooks_organization", "organization_id", "id"),
        Index("ix_webhooks_state", "state", "id"),
    )

    id: Mapped[WebhookId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    format: Mapped[str]
    shown: Mapped[str]
    url_sealed: Mapped[bytes] = sealed_column(lambda row: row.url_binding)
    secret_sealed: Mapped[bytes] = sealed_column(lambda row: row.secret_binding)
    previous_sealed: Mapped[bytes | None] = sealed_column(lambda row: row.secret_binding)
    previous_until: Mapped[Millis | None]
    kinds: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[Millis]
    ended_at: Mapped[Millis | None]

    @property
    def url_binding(self) -> Binding:
        """The place that the sealed URL belongs to."""
        return Binding("webhook-url", self.organization_id, self.id)

    @property
    def secret_binding(self) -> Binding:
        """The place that the sealed signing secrets belong to."""
        return Binding("webhook-secret", self.organization_id, self.id)

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "subject": self.id,
            "note": self.shown,
        }


class DeliveryRow(TenantOwned, Table):
    """One notice to one place.

    ``channel`` is ``webhook`` or ``email``, ``destination`` a webhook's id or an address, ``queue`` one of those of the
    destination (:mod:`broker.notifications.queues`).  ``state`` is a
    :class:`~broker.notifications.lifecycle.DeliveryState`.  ``last_error`` is a word about the last try, never what
    came back.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("notice_id", "channel", "destination"),
        partial("ix_deliveries_queue", "state = 'pending'", "queue", "next_try_at", "id"),
        Index("ix_deliveries_organization", "organization_id", "id"),
        Index("ix_deliveries_state", "state", "id"),
    )

    id: Mapped[DeliveryId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    notice_id: Mapped[NoticeId]
    channel: Mapped[str]
    destination: Mapped[str]
    queue: Mapped[str]
    audience: Mapped[str]
    state: Mapped[str]
    tries: Mapped[int]
    next_try_at: Mapped[Millis]
    last_status: Mapped[int | None]
    last_error: Mapped[str]
    created_at: Mapped[Millis]
    settled_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"organization": self.organization_id, "subject": self.id}

    @property
    def webhook_id(self) -> WebhookId | None:
        """The webhook that it goes to; None if it goes elsewhere."""
        return WebhookId(self.destination) if self.channel == "webhook" else None


class QueueRow(Table):
    """What waits to be sent to one destination, urgent or not, and when its turn is.

    A receiver that asked for it rests until a time.
    It is of no tenant, as a destination may be told of several.  It doesn't name the destination.
    """

    __tablename__ = "delivery_queues"
    __table_args__ = (Index("ix_delivery_queues_due", "urgent", "due_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    urgent: Mapped[bool]
    due_at: Mapped[Millis]
    rests_until: Mapped[Millis] = mapped_column(server_default="0")

    @property
    def destination(self) -> str:
        """What both queues of a destination have in common."""
        return self.id.partition("-")[2]
