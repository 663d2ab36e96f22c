"""What operators were told."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from broker.base.db import Table, TenantOwned


class NoticeRow(TenantOwned, Table):
    """One notice; ``kind`` says what happened, the other columns to what."""

    __tablename__ = "notices"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    credential_id: Mapped[str]
    version: Mapped[int]
    provider: Mapped[str]
    created_at: Mapped[int]
