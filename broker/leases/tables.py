"""Rows of leases and of uses, written with their events; uses and refusals by day."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned, partial
from broker.formats.ids import CredentialId, GrantId, LeaseId, OrganizationId, UseId, WorkloadId
from broker.keystore.genuine import GivesRights


class LeaseRow(GivesRights, TenantOwned, Table):
    """A lease.

    It can be renewed up to ``until``.  ``ended_at`` is set if it was ended or revoked early.  ``via`` has the ids of
    what its access token stood on, divided by spaces.  ``jkt`` names the key whose proof its token needs (DPoP).
    """

    __tablename__ = "leases"
    # In the order of lists: by the time of their issue.
    __table_args__ = (
        Index("ix_leases_organization", "organization_id", "issued_at", "id"),
        Index("ix_leases_workload", "workload_id", "issued_at", "id"),
        Index("ix_leases_provider", "provider", "issued_at", "id"),
        Index("ix_leases_issued", "issued_at", "id"),
        partial("ix_leases_standing", "ended_at IS NULL", "expires_at"),
        partial("ix_leases_ended", "ended_at IS NOT NULL", "issued_at", "id"),
        partial("ix_leases_revoked", "ended_at IS NOT NULL AND end_reason = 'lease.revoked'", "issued_at", "id"),
        # Those that stand are found by their end, however many there were.
        Index("ix_leases_credential", "credential_id", "expires_at"),
    )
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
        "via",
        "jkt",
    )
    ADDED = frozenset({"via", "jkt"})

    id: Mapped[LeaseId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    workload_id: Mapped[WorkloadId]
    grant_id: Mapped[GrantId]
    credential_id: Mapped[CredentialId]
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
    via: Mapped[str | None]
    jkt: Mapped[str | None]


class UseRow(TenantOwned, Table):
    """A proxied call under way.

    The row goes when the call ends.  If its process died, it is closed as unknown.  What there was is on the record,
    and counted by day (:class:`UseDayRow`).
    """

    __tablename__ = "uses"
    __table_args__ = (Index("ix_uses_credential", "credential_id"),)

    id: Mapped[UseId] = mapped_column(primary_key=True)
    # By no index of its own: rows come and go at the rate of calls, and there are as many as calls under way.
    organization_id: Mapped[OrganizationId]
    lease_id: Mapped[LeaseId]
    credential_id: Mapped[CredentialId]
    version: Mapped[int]
    workload_id: Mapped[WorkloadId]
    grant_id: Mapped[GrantId]
    method: Mapped[str]
    authorized_at: Mapped[Millis]

    def event_fields(self) -> Fields:
        return {
            "organization": self.organization_id,
            "credential": self.credential_id,
            "version": self.version,
            "workload": self.workload_id,
            "lease": self.lease_id,
            "use": self.id,
        }


class UseDayRow(TenantOwned, Table):
    """How often a job used a version of a key, or was shown it, in one day.

    Days are those of UTC since the epoch.  It is counted from the record (:mod:`broker.leases.use_days`).  The last
    times are milliseconds, 0 if there was none.
    """

    __tablename__ = "use_days"
    __table_args__ = (Index("ix_use_days_day", "day", "credential_id", "version", "workload_id"),)

    credential_id: Mapped[CredentialId] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    workload_id: Mapped[WorkloadId] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    organization_id: Mapped[OrganizationId]
    uses: Mapped[int]
    reveals: Mapped[int]
    last_use: Mapped[Millis]
    last_reveal: Mapped[Millis]
    last_lease: Mapped[Millis]


class DayRow(Table):
    """How many calls there were in one day, and how many were refused, of all customers.

    Days are those of UTC since the epoch.  Refusals count those of leases, too.
    """

    __tablename__ = "days"

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    uses: Mapped[int]
    refusals: Mapped[int]


class OrganizationDayRow(TenantOwned, Table):
    """The same of one customer; a day without any has no row."""

    __tablename__ = "organization_days"
    __table_args__ = (Index("ix_organization_days_day", "day", "organization_id"),)

    organization_id: Mapped[OrganizationId] = mapped_column(primary_key=True, index=False)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    uses: Mapped[int]
    refusals: Mapped[int]
