"""The review row: one look at one grant or account."""

from __future__ import annotations

from sqlalchemy import Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned, partial
from broker.formats.ids import AuditEventId, GrantId, OperatorId, OrganizationId, ReviewId, is_id


class ReviewRow(TenantOwned, Table):
    """A review of the grant or account that ``subject`` is the id of.

    It is open until it is closed: decided, which ``event_id`` is the event of, or ended.  An account is no tenant's, so
    ``organization_id`` is empty.  ``by_age`` if it is a grant's first one, made as that became old.
    """

    __tablename__ = "reviews"
    __table_args__ = (
        Index("ix_reviews_due", "due_at", "id"),
        Index("ix_reviews_organization", "organization_id", "due_at", "id"),
        Index("ix_reviews_state", "state", "due_at", "id"),
        partial("ix_reviews_decided", "state = 'decided'", "closed_at", "id"),
        Index(
            "ix_reviews_by_age",
            "subject",
            sqlite_where=text("by_age IS 1"),
            postgresql_where=text("by_age IS true"),
        ),
        Index(
            "uq_reviews_open",
            "subject",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
    )

    id: Mapped[ReviewId] = mapped_column(primary_key=True)
    organization_id: Mapped[OrganizationId] = mapped_column(index=False)  # lists have indexes of their own
    subject: Mapped[str]
    by_age: Mapped[bool] = mapped_column(server_default=false())
    due_at: Mapped[Millis]
    state: Mapped[str]
    created_at: Mapped[Millis]
    started_by: Mapped[str | None]
    decision: Mapped[str | None]
    decided_by: Mapped[str | None]
    closed_at: Mapped[Millis | None]
    event_id: Mapped[AuditEventId | None]

    @property
    def grant(self) -> GrantId | None:
        """The grant, if it is one that is reviewed."""
        subject = self.subject
        return subject if is_id(subject, GrantId) else None

    @property
    def account(self) -> OperatorId | None:
        """The account, if it is one that is reviewed."""
        subject = self.subject
        return subject if is_id(subject, OperatorId) else None

    def event_fields(self) -> Fields:
        if (grant := self.grant) is not None:
            return {"organization": self.organization_id, "grant": grant, "reason": f"review={self.id}"}
        return {"subject": self.subject, "reason": f"review={self.id}"}
