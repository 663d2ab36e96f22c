"""Answers kept for repeats of a request with the same ``Idempotency-Key``.

They are sealed because they may hold a secret.
"""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from broker.base.clock import Millis
from broker.base.db import Table
from broker.formats.envelope import Binding
from broker.keystore.columns import sealed_column


class IdempotencyRow(Table):
    """One answered request."""

    __tablename__ = "idempotency"

    principal_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]
    status: Mapped[int]
    answer_sealed: Mapped[bytes] = sealed_column(lambda row: row.binding)
    expires_at: Mapped[Millis] = mapped_column(index=True)

    @property
    def binding(self) -> Binding:
        """The place the sealed answer belongs to."""
        return Binding("idempotency", credential=self.principal_id, provider=self.request_hash)
