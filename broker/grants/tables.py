"""The grant row: one workload, one organization, one provider."""

from __future__ import annotations

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from broker.base.db import Table, TenantOwned


class GrantRow(TenantOwned, Table):
    """A right to lease.  ``label`` None covers every label; ``max_ttl`` is in seconds."""

    __tablename__ = "grants"

    id: Mapped[str] = mapped_column(primary_key=True)
    workload_id: Mapped[str] = mapped_column(index=True)
    provider: Mapped[str]
    label: Mapped[str | None]
    modes: Mapped[list[str]] = mapped_column(JSON)
    max_ttl: Mapped[int]
    purpose_required: Mapped[bool]
    expires_at: Mapped[int | None]
    state: Mapped[str]
    created_at: Mapped[int]
    created_by: Mapped[str]
    revoked_at: Mapped[int | None]
