"""Rows of one-time links, of challenges that were answered, and of counted wrong proofs."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned
from broker.formats.envelope import Binding
from broker.formats.ids import CredentialId, IntakeId, OrganizationId, RotationId
from broker.formats.intake_seal import SealContext
from broker.keystore.columns import sealed_column
from broker.keystore.genuine import GivesRights


class IntakeRow(GivesRights, TenantOwned, Table):
    """A request for a key.

    ``state`` is an :class:`~broker.intake.lifecycle.IntakeState`.  ``private_sealed`` is None once no submission can
    come any more.  ``rotation_id`` is the rotation whose new key is asked for; None asks for a first key.

    ``link_key`` is the key of the link's proofs, sealed.  It is None for a link of version 1, of whose constant proof
    ``proof_hash`` is.  ``status_key`` is the key of the status code, sealed.  If it is None the broker
    derives a status link's secret; ``status_serial`` counts these, and only the latest works.  ``self_issued_at`` is
    when the customer issued the present link over their status page; None if an operator did.
    """

    __tablename__ = "intakes"
    __table_args__ = (
        Index("ix_intakes_organization", "organization_id", "id"),
        Index("ix_intakes_provider", "provider", "id"),
        Index("ix_intakes_label", "label", "id"),
        Index("ix_intakes_in_state", "state", "id"),
        Index("ix_intakes_expiring", "state", "expires_at"),
        Index("ix_intakes_settled", "settled_at", "id"),
    )
    AUTHENTICATED = (
        "id",
        "organization_id",
        "provider",
        "label",
        "rotation_id",
        "credential_id",
        "version",
        "public_key",
        "proof_hash",
        "status_serial",
        "created_at",
        "expires_at",
        "link_key",
        "status_key",
    )
    ADDED = frozenset({"link_key", "status_key"})

    id: Mapped[IntakeId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    provider: Mapped[str]
    label: Mapped[str]
    contact: Mapped[str]
    purpose: Mapped[str]
    requested_by: Mapped[str]
    state: Mapped[str]
    proof_hash: Mapped[bytes]
    link_key: Mapped[bytes | None] = sealed_column(lambda row: row.link_binding, own=True)
    status_key: Mapped[bytes | None] = sealed_column(lambda row: row.status_binding, own=True)
    public_key: Mapped[bytes]
    private_sealed: Mapped[bytes | None] = sealed_column(lambda row: row.binding)
    rotation_id: Mapped[RotationId | None] = mapped_column(index=True)
    status_serial: Mapped[int] = mapped_column(server_default="0")
    credential_id: Mapped[CredentialId | None]
    version: Mapped[int | None]
    refusal: Mapped[str]
    created_at: Mapped[Millis]
    expires_at: Mapped[Millis]
    self_issued_at: Mapped[Millis | None] = mapped_column("drawn_at")
    submitted_at: Mapped[Millis | None]
    settled_at: Mapped[Millis | None]

    @property
    def binding(self) -> Binding:
        """The place that the sealed private key belongs to."""
        return Binding("intake", self.organization_id, self.id, 0, self.provider)

    @property
    def link_binding(self) -> Binding:
        """The place that the sealed key of the one-time link belongs to."""
        return Binding("intake-link", self.organization_id, self.id, 0, self.provider)

    @property
    def status_binding(self) -> Binding:
        """The place that the sealed key of the status code belongs to."""
        return Binding("intake-status", self.organization_id, self.id, 0, self.provider)

    @property
    def context(self) -> SealContext:
        """What a submission is sealed to."""
        return SealContext(self.id, self.organization_id, self.provider, self.expires_at)

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "provider": self.provider,
            "credential": self.credential_id or "",
            "version": self.version or 0,
            "intake": self.id,
        }


class UsedChallengeRow(Table):
    """A nonce whose proof was accepted."""

    __tablename__ = "used_challenges"

    nonce: Mapped[str] = mapped_column(primary_key=True)
    used_at: Mapped[Millis] = mapped_column(index=True)


class ThrottleRow(Table):
    """How many wrong proofs came in one window, by a keyed hash of the address or link."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[int] = mapped_column(index=True)
    count: Mapped[int]
