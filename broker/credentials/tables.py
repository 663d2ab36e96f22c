"""Rows of credentials and their versions: sealed bytes, never plaintext."""

from __future__ import annotations

from sqlalchemy import JSON, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from broker.base.db import Table, TenantOwned
from broker.formats.envelope import Binding


class CredentialRow(TenantOwned, Table):
    """Organization × provider × label.  ``variables`` are the provider's host parts, fixed at verification."""

    __tablename__ = "credentials"
    __table_args__ = (UniqueConstraint("organization_id", "provider", "label"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str]
    label: Mapped[str]
    state: Mapped[str]
    variables: Mapped[dict[str, str]] = mapped_column(JSON)
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]


class VersionRow(TenantOwned, Table):
    """One key of a credential.  ``sealed`` is None once destroyed; ``verdict`` is what verification last found.

    ``health`` of a key in use is ``healthy``, or ``failing`` once upstream said that it is a bad key.
    """

    __tablename__ = "credential_versions"
    __table_args__ = (Index("ix_credential_versions_due", "state", "next_probe_at"),)

    credential_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    provider: Mapped[str]
    state: Mapped[str]
    sealed: Mapped[bytes | None]
    fingerprint: Mapped[str]
    last4: Mapped[str]
    intake_id: Mapped[str | None]
    verdict: Mapped[str]
    health: Mapped[str] = mapped_column(server_default="healthy")
    health_at: Mapped[int | None]
    probes: Mapped[int]
    next_probe_at: Mapped[int | None]
    staged_at: Mapped[int]
    verified_at: Mapped[int | None]
    activated_at: Mapped[int | None]
    revoked_at: Mapped[int | None]
    destroyed_at: Mapped[int | None]

    @property
    def binding(self) -> Binding:
        """The place this version's sealed bytes belong to."""
        return Binding("credential", self.organization_id, self.credential_id, self.number, self.provider)


class FingerprintRow(Table):
    """Which organization a key was first received for: a key binds to one organization for life.

    Outside the tenant fences on purpose (a key must be recognised whoever brings it); holds keyed hashes only.
    """

    __tablename__ = "key_fingerprints"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]


class EvidenceRow(Table):
    """Which organization an id belongs to that an upstream returned; keyed hashes only, outside the tenant fences."""

    __tablename__ = "identity_evidence"

    provider: Mapped[str] = mapped_column(primary_key=True)
    id_hash: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
