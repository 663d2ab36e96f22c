"""Rows of credentials and their versions: sealed bytes, never plaintext."""

from __future__ import annotations

from sqlalchemy import JSON, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned, partial
from broker.formats.envelope import Binding
from broker.formats.ids import CredentialId, IntakeId, OrganizationId, RotationId
from broker.keystore.columns import sealed_column
from broker.keystore.genuine import GivesRights


class CredentialRow(GivesRights, TenantOwned, Table):
    """Organization × provider × label.  A revoked one leaves its label to the next.

    ``variables`` are the provider's host parts, fixed at verification.  ``contact`` is the customer's address for
    everything about the key.  ``paused_at`` is set while the customer lets nobody use it.  ``rotation_days``,
    ``max_age_days`` and ``on_max_age`` (``warn`` or ``refuse``) are its own age policy; None leaves it to the
    organization's, then to the provider's.

    ``organization_days`` and ``provider_days`` are the intervals that these name, as they were when the key was last
    dated; ``provider_days`` is 0 if it names none, None if the key never was.  ``due_at`` is when the key in use has to
    be replaced; None if nothing limits its age, or none is in use.  ``used_at`` is when a key of it was first leased or
    used; None is never.
    """

    __tablename__ = "credentials"
    __table_args__ = (
        Index(
            "uq_credentials_active",
            "organization_id",
            "provider",
            "label",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
        Index("ix_credentials_organization", "organization_id", "id"),
        Index("ix_credentials_provider", "provider", "id"),
        Index("ix_credentials_label", "label", "id"),
        partial("ix_credentials_active", "state = 'active'", "id"),
        partial("ix_credentials_revoked", "state = 'revoked'", "id"),
        partial("ix_credentials_due", "due_at IS NOT NULL", "due_at", "id"),
        partial("ix_credentials_organization_due", "due_at IS NOT NULL", "organization_id", "due_at", "id"),
        partial("ix_credentials_unused", "used_at IS NULL AND state = 'active'", "id"),
        partial("ix_credentials_paused", "paused_at IS NOT NULL AND state = 'active'", "id"),
        partial("ix_credentials_interval", "state = 'active'", "provider", "provider_days"),
        Index("ix_credentials_address", "organization_id", "provider", "label"),
    )
    AUTHENTICATED = ("id", "organization_id", "provider", "label", "variables", "created_at")

    id: Mapped[CredentialId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    provider: Mapped[str]
    label: Mapped[str]
    state: Mapped[str]
    variables: Mapped[dict[str, str]] = mapped_column(JSON)
    contact: Mapped[str] = mapped_column(server_default="")
    paused_at: Mapped[Millis | None]
    rotation_days: Mapped[int | None]
    max_age_days: Mapped[int | None]
    on_max_age: Mapped[str] = mapped_column(server_default="warn")
    organization_days: Mapped[int | None]
    provider_days: Mapped[int | None]
    due_at: Mapped[Millis | None]
    used_at: Mapped[Millis | None]
    created_at: Mapped[Millis]
    revoked_at: Mapped[Millis | None]

    @property
    def host_parts(self) -> dict[str, str]:
        """``variables``, as they choose the host that a key is sent to; raises RowAltered."""
        self.vouched_for()
        return self.variables

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "credential": self.id,
            "provider": self.provider,
        }


def binding_of(organization: OrganizationId, credential: CredentialId, number: int, provider: str) -> Binding:
    """The place that a version's sealed bytes belong to."""
    return Binding("credential", organization, credential, number, provider)


class VersionRow(TenantOwned, Table):
    """One key of a credential.

    ``sealed`` is None once the key is destroyed.  ``verdict`` is what verification last found.

    ``health`` of a key in use is what the upstream last said, or that its material is gone.  ``retired_at`` is set if a
    newer version took its place.  A revoked version is ``confirmed_at`` once the upstream refuses its key; until then
    the customer was sent ``reminders``.  After that the key is kept for a month, to ask again.  ``upstream_id`` is what
    the upstream calls the key, if the broker made it there.  ``leak_fingerprint`` is what the key is recognised by
    where it should not be.
    """

    __tablename__ = "credential_versions"
    __table_args__ = (
        partial("ix_credential_versions_next", "next_probe_at IS NOT NULL", "state", "provider", "next_probe_at"),
        # What was set before the clock stepped back.
        partial("ix_credential_versions_checked", "next_probe_at IS NOT NULL", "health_at", "next_probe_at"),
        partial(
            "ix_credential_versions_unhealthy", "state = 'active' AND health <> 'healthy'", "health", "credential_id"
        ),
        partial("ix_credential_versions_awaiting", "state = 'revoked' AND confirmed_at IS NULL", "credential_id"),
    )

    credential_id: Mapped[CredentialId] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    provider: Mapped[str]
    state: Mapped[str]
    sealed: Mapped[bytes | None] = sealed_column(lambda row: row.binding)
    fingerprint: Mapped[str]
    last4: Mapped[str]
    intake_id: Mapped[IntakeId | None]
    verdict: Mapped[str]
    health: Mapped[str] = mapped_column(server_default="healthy")
    health_at: Mapped[Millis | None]
    probes: Mapped[int]
    next_probe_at: Mapped[Millis | None]
    staged_at: Mapped[Millis]
    verified_at: Mapped[Millis | None]
    activated_at: Mapped[Millis | None]
    retired_at: Mapped[Millis | None]
    revoked_at: Mapped[Millis | None]
    confirmed_at: Mapped[Millis | None]
    destroyed_at: Mapped[Millis | None]
    reminders: Mapped[int] = mapped_column(server_default="0")
    upstream_id: Mapped[str] = mapped_column(server_default="")
    leak_fingerprint: Mapped[str | None] = mapped_column("leak_mark", index=True)

    @property
    def binding(self) -> Binding:
        """The place this version's sealed bytes belong to."""
        return binding_of(self.organization_id, self.credential_id, self.number, self.provider)

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "credential": self.credential_id,
            "version": self.number,
            "provider": self.provider,
            "fingerprint": self.fingerprint,
            "intake": self.intake_id or "",
        }


class CertificateRow(TenantOwned, Table):
    """A statement about a version, as it was signed.

    The format is :mod:`broker.formats.certificate`'s.  None is ever deleted.
    """

    __tablename__ = "certificates"

    credential_id: Mapped[CredentialId] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    serial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # they are found by credential alone
    note: Mapped[bytes]


class RotationRow(TenantOwned, Table):
    """One change of key, until the old one's retirement.  A credential has at most one open.

    ``kind`` is ``routine``, ``automatic`` (its time had come), ``urgent`` (an exposure), ``customer`` (they began it)
    or ``minted`` (the broker makes the key upstream).  ``state`` is a
    :class:`~broker.credentials.rotation_lifecycle.RotationState`.  ``seen_ids`` of the new key and ``known_ids`` of the
    previous one share ``shared_ids``: these are the facts of an operator's decision.
    """

    __tablename__ = "rotations"
    __table_args__ = (
        Index(
            "uq_rotations_open",
            "credential_id",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_rotations_state", "state", "grace_until"),
        partial("ix_rotations_due", "next_try_at IS NOT NULL", "state", "provider", "next_try_at"),
        Index("ix_rotations_ended", "ended_at", "id"),
        Index("ix_rotations_organization", "organization_id", "id"),
        Index("ix_rotations_credential", "credential_id", "id"),
        Index("ix_rotations_provider", "provider", "id"),
        Index("ix_rotations_in_state", "state", "id"),
        partial("ix_rotations_under_way", "ended_at IS NULL", "id"),
        partial("ix_rotations_over", "ended_at IS NOT NULL", "id"),
    )

    id: Mapped[RotationId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    credential_id: Mapped[CredentialId]
    provider: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    requested_by: Mapped[str]
    intake_id: Mapped[IntakeId | None]
    from_version: Mapped[int | None]
    to_version: Mapped[int | None]
    seen_ids: Mapped[int | None]
    known_ids: Mapped[int | None]
    shared_ids: Mapped[int | None]
    grace_minutes: Mapped[int]
    deadline_hours: Mapped[int]
    opened_at: Mapped[Millis]
    activated_at: Mapped[Millis | None]
    grace_until: Mapped[Millis | None]
    retire_by: Mapped[Millis | None]
    failing_at: Mapped[Millis | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    next_try_at: Mapped[Millis | None]
    ended_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "subject": self.id,
            "credential": self.credential_id,
            "version": self.to_version or 0,
            "provider": self.provider,
            "intake": self.intake_id or "",
        }


class FingerprintRow(Table):
    """Which organization a key was first received for: a key binds to one organization for life.

    It is outside the tenant fences, as a key must be recognised whoever brings it.  It holds keyed hashes only.
    """

    __tablename__ = "key_fingerprints"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[OrganizationId]


class EvidenceRow(Table):
    """Which organization an id belongs to that an upstream returned.

    It holds keyed hashes only, outside the tenant fences.
    """

    __tablename__ = "identity_evidence"

    provider: Mapped[str] = mapped_column(primary_key=True)
    id_hash: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[OrganizationId] = mapped_column(index=True)


class KeyEvidenceRow(TenantOwned, Table):
    """An id that the upstream returned for a key in use.  The next key is compared with it."""

    __tablename__ = "key_evidence"

    credential_id: Mapped[CredentialId] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id_hash: Mapped[str] = mapped_column(primary_key=True)
