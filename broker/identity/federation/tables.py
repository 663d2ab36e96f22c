"""Rows of trusts, of issuers' states, and of tokens that were used."""

from __future__ import annotations

from sqlalchemy import JSON, Index
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, partial
from broker.formats.ids import IssuerEraId, TrustId, WorkloadId
from broker.keystore.genuine import GivesRights


class TrustRow(GivesRights, Table):
    """Which tokens of an issuer are a job's.

    ``claims`` has for each short name the values of which one has to be there, ``networks`` those (CIDR) that a token
    may come from; none is any.  ``issuer`` is its file's id.
    """

    __tablename__ = "trusts"
    __table_args__ = (
        Index("ix_trusts_workload", "workload_id", "id"),
        Index("ix_trusts_issuer", "issuer", "id"),
        partial("ix_trusts_active", "state = 'active'", "id"),
        partial("ix_trusts_revoked", "state = 'revoked'", "id"),
        partial("ix_trusts_expires", "state = 'active' AND expires_at IS NOT NULL", "expires_at"),
    )
    AUTHENTICATED = (
        "id",
        "workload_id",
        "issuer",
        "claims",
        "networks",
        "expires_at",
        "created_at",
        "created_by",
    )

    id: Mapped[TrustId] = mapped_column(primary_key=True)
    workload_id: Mapped[WorkloadId]
    issuer: Mapped[str]
    claims: Mapped[dict[str, list[str]]] = mapped_column(JSON)
    networks: Mapped[list[str]] = mapped_column(JSON)
    expires_at: Mapped[Millis | None]
    note: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[Millis]
    created_by: Mapped[str]
    revoked_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"workload": self.workload_id, "subject": self.id, "provider": self.issuer}


class IssuerRow(Table):
    """Whether an issuer's tokens count just now.

    All that it has proved since it was last resumed is of one ``era``.  When it is suspended, the era's epoch is
    raised, and what was proved in it ends.  ``digest`` names what its file said last, ``key_set`` the keys that it had
    last; ``failing_since`` is set while it gives no usable answer.  Brokers that kept keys from before ``refreshed_at``
    ask for them again.
    """

    __tablename__ = "issuers"

    id: Mapped[str] = mapped_column(primary_key=True)
    era: Mapped[IssuerEraId]
    suspended_at: Mapped[Millis | None]
    digest: Mapped[str]
    key_set: Mapped[str]
    failing_since: Mapped[Millis | None]
    refreshed_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"provider": self.id}


class UsedTokenRow(Table):
    """A token that was exchanged; kept until it would be refused for its age.

    ``name`` is its ``jti`` if it is good once, else the hash of what was signed.  ``address`` is whence it came first.
    """

    __tablename__ = "used_tokens"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]
    expires_at: Mapped[Millis] = mapped_column(index=True)
