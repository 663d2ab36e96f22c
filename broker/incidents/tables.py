"""Rows of exposures."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned
from broker.formats.ids import CredentialId, ExposureId, OrganizationId, RotationId


class ExposureRow(TenantOwned, Table):
    """A key was seen where it should not be.

    ``since`` is from when on it may have been there (milliseconds).
    """

    __tablename__ = "exposures"
    __table_args__ = (
        UniqueConstraint("credential_id", "version"),
        Index("ix_exposures_organization", "organization_id", "id"),
    )

    id: Mapped[ExposureId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    credential_id: Mapped[CredentialId]
    version: Mapped[int]
    provider: Mapped[str]
    found_by: Mapped[str]
    found_where: Mapped[str]
    note: Mapped[str]
    since: Mapped[Millis]
    reported_by: Mapped[str]
    reported_at: Mapped[Millis]
    rotation_id: Mapped[RotationId | None]

    def event_fields(self) -> Fields:
        return {"organization": self.organization_id, "subject": self.id}
