"""Rows of findings."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned
from broker.formats.ids import CredentialId, FindingId, OrganizationId


class FindingRow(TenantOwned, Table):
    """One of our keys, seen at one location.

    ``location_hash`` tells locations apart; ``location`` is for people.
    """

    __tablename__ = "findings"
    __table_args__ = (
        UniqueConstraint("credential_id", "version", "place_hash"),
        Index("ix_findings_organization", "organization_id", "id"),
    )

    id: Mapped[FindingId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    credential_id: Mapped[CredentialId]
    version: Mapped[int]
    provider: Mapped[str]
    location: Mapped[str] = mapped_column("place")
    location_hash: Mapped[str] = mapped_column("place_hash")
    found_by: Mapped[str]
    found_at: Mapped[Millis]
