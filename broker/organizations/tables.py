"""The organization row: the tenant root that every fence compares with."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from broker.base.db import Table, TenantRoot


class OrganizationRow(TenantRoot, Table):
    """A customer organization.  ``state`` is ``active`` or ``revoked``; the slug never changes."""

    __tablename__ = "organizations"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]
