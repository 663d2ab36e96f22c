"""Rows of findings."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from broker.base.db import Table, TenantOwned


class FindingRow(TenantOwned, Table):
    """One of our keys, seen at one location.

    ``location_hash`` tells locations apart; ``location`` is for people.
    """

    __tablename__ = "findings"
    __table_args__ = (UniqueConstraint("credential_id", "version", "place_hash"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    credential_id: Mapped[str]
    version: Mapped[int]
    provider: Mapped[str]
    location: Mapped[str] = mapped_column("place")
    location_hash: Mapped[str] = mapped_column("place_hash")
    found_by: Mapped[str]
    found_at: Mapped[int]
