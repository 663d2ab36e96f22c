"""The grant row: one workload, one organization, one provider."""

from __future__ import annotations

from sqlalchemy import JSON, Index, false, text, true
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned, partial
from broker.formats.ids import GrantId, OrganizationId, WorkloadId
from broker.keystore.genuine import GivesRights


class GrantRow(GivesRights, TenantOwned, Table):
    """A right to lease.  ``label`` None covers every label; ``max_ttl`` is in seconds.

    ``rules`` are written out when the grant is made, presets too: a provider file that changes later widens no grant.
    With ``needs_approval`` it gives nothing until a second person sets ``approved_by``.  ``bound`` is None where the
    job's token needs no key.
    """

    __tablename__ = "grants"
    # Of one job for one organization, however many organizations a job has, or jobs an organization.
    __table_args__ = (
        Index("ix_grants_target", "workload_id", "organization_id"),
        Index("ix_grants_organization", "organization_id", "id"),
        Index("ix_grants_workload", "workload_id", "id"),
        Index("ix_grants_provider", "provider", "id"),
        Index("ix_grants_label", "label", "id"),
        partial("ix_grants_any_label", "label IS NULL", "id"),
        partial("ix_grants_active", "state = 'active'", "id"),
        partial("ix_grants_revoked", "state = 'revoked'", "id"),
        Index(
            "ix_grants_unapproved",
            "id",
            sqlite_where=text("state = 'active' AND needs_approval IS 1 AND approved_by IS NULL"),
            postgresql_where=text("state = 'active' AND needs_approval IS true AND approved_by IS NULL"),
        ),
        partial("ix_grants_ending", "state = 'active' AND expires_at IS NOT NULL", "id"),
    )
    AUTHENTICATED = (
        "id",
        "organization_id",
        "workload_id",
        "provider",
        "label",
        "modes",
        "max_ttl",
        "purpose_required",
        "presets",
        "rules",
        "rate_uses",
        "rate_seconds",
        "max_uses",
        "implicit",
        "retries",
        "expires_at",
        "created_at",
        "created_by",
        "needs_approval",
        "approved_by",
        "approved_at",
        "bound",
    )
    ADDED = frozenset({"bound"})

    id: Mapped[GrantId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    workload_id: Mapped[WorkloadId]
    provider: Mapped[str]
    label: Mapped[str | None]
    modes: Mapped[list[str]] = mapped_column(JSON)
    max_ttl: Mapped[int]
    purpose_required: Mapped[bool]
    presets: Mapped[list[str]] = mapped_column(JSON, server_default="[]")
    rules: Mapped[list[dict[str, list[str]]]] = mapped_column(JSON, server_default="[]")
    rate_uses: Mapped[int | None]
    rate_seconds: Mapped[int | None]
    max_uses: Mapped[int | None]
    implicit: Mapped[bool] = mapped_column(server_default=false())
    retries: Mapped[bool] = mapped_column(server_default=true())
    bound: Mapped[bool | None]
    expires_at: Mapped[Millis | None]
    state: Mapped[str]
    created_at: Mapped[Millis]
    created_by: Mapped[str]
    needs_approval: Mapped[bool] = mapped_column(server_default=false())
    approved_by: Mapped[str | None]
    approved_at: Mapped[Millis | None]
    revoked_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "provider": self.provider,
            "workload": self.workload_id,
            "grant": self.id,
        }
