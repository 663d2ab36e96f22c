"""Rows of leases and of the uses under them, written in the transaction of their events."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned
from broker.formats.ids import CredentialId, GrantId, LeaseId, UseId, WorkloadId
from broker.keystore.genuine import GivesRights


class LeaseRow(GivesRights, TenantOwned, Table):
    """A lease.

    It can be renewed up to ``until``.  ``ended_at`` is set if it was ended or revoked early.
    """

    __tablename__ = "leases"
    AUTHENTICATED = (
        "id",
        "organization_id",
        "workload_id",
        "grant_id",
        "credential_id",
        "version",
        "provider",
        "label",
        "mode",
        "purpose",
        "issued_at",
        "until",
    )

    id: Mapped[LeaseId] = mapped_column(primary_key=True)
    workload_id: Mapped[WorkloadId] = mapped_column(index=True)
    grant_id: Mapped[GrantId]
    credential_id: Mapped[CredentialId] = mapped_column(index=True)
    version: Mapped[int]
    provider: Mapped[str]
    label: Mapped[str]
    mode: Mapped[str]
    purpose: Mapped[str]
    issued_at: Mapped[Millis]
    expires_at: Mapped[Millis]
    until: Mapped[Millis]
    ended_at: Mapped[Millis | None]
    end_reason: Mapped[str]


class UseRow(TenantOwned, Table):
    """One proxied call, authorized before it and completed after it.

    If its process died, an open one is closed as unknown.
    """

    __tablename__ = "uses"
    __table_args__ = (
        Index("ix_uses_open", "completed_at", "authorized_at"),
        Index("ix_uses_credential", "credential_id", "authorized_at"),
    )

    id: Mapped[UseId] = mapped_column(primary_key=True)
    lease_id: Mapped[LeaseId] = mapped_column(index=True)
    credential_id: Mapped[CredentialId]
    version: Mapped[int]
    workload_id: Mapped[WorkloadId]
    grant_id: Mapped[GrantId] = mapped_column(server_default="")
    method: Mapped[str]
    authorized_at: Mapped[Millis]
    completed_at: Mapped[Millis | None]
    status: Mapped[int | None]

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "credential": self.credential_id,
            "version": self.version,
            "workload": self.workload_id,
            "lease": self.lease_id,
            "use": self.id,
        }
