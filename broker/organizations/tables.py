"""The organization row: the tenant root that every fence compares with."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantRoot
from broker.keystore.genuine import GivesRights


class OrganizationRow(TenantRoot, GivesRights, Table):
    """A customer organization.  ``state`` is ``active`` or ``revoked``; the slug never changes.

    ``rotation_days`` says after how many days its keys have to be replaced.  None leaves it to each provider.
    """

    __tablename__ = "organizations"
    __table_args__ = (Index("ix_organizations_state", "state", "id"),)
    AUTHENTICATED = ("id", "slug", "name", "created_at")

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    state: Mapped[str]
    rotation_days: Mapped[int | None]
    created_at: Mapped[Millis]
    revoked_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"organization": self.id}
