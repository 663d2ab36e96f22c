"""Rows of operators, workloads, used assertions, and the keys that sign access tokens."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, partial
from broker.formats.envelope import Binding
from broker.formats.ids import OperatorId, OrganizationId, WorkloadId
from broker.keystore.columns import sealed_column
from broker.keystore.genuine import GivesRights


def _active_names(table: str) -> Index:
    """Of several rows with one name at most one is active.

    So a name is free again once its holder has ended.
    """
    active = text("state = 'active'")
    return Index(f"uq_{table}_active", "name", unique=True, sqlite_where=active, postgresql_where=active)


class AccountRow(GivesRights, Table):
    """A person's account.  Only the keyed hash of the token is kept.

    ``created_by`` is the account that made it, "" if it was made with a one-time token.  With ``needs_approval`` it may
    do nothing until a second person sets ``approved_by``.  Once the token was
    renewed, the previous one holds until ``previous_until``.
    """

    __tablename__ = "operators"
    __table_args__ = (_active_names("operators"),)
    AUTHENTICATED = (
        "id",
        "name",
        "roles",
        "organizations",
        "token_hash",
        "created_at",
        "expires_at",
        "created_by",
        "needs_approval",
        "approved_by",
        "approved_at",
        "previous_token_hash",
        "previous_until",
    )
    ADDED = frozenset({"previous_token_hash", "previous_until"})

    id: Mapped[OperatorId] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    roles: Mapped[list[str]] = mapped_column(JSON)
    organizations: Mapped[list[OrganizationId] | None] = mapped_column(JSON(none_as_null=True))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    state: Mapped[str]
    created_at: Mapped[Millis]
    expires_at: Mapped[Millis]
    created_by: Mapped[str] = mapped_column(server_default="")
    needs_approval: Mapped[bool] = mapped_column(server_default=false())
    approved_by: Mapped[str | None]
    approved_at: Mapped[Millis | None]
    previous_token_hash: Mapped[bytes | None] = mapped_column(unique=True, index=True)
    previous_until: Mapped[Millis | None]
    revoked_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"subject": self.id}


class BootstrapRow(Table):
    """The one-time token with which the first operator is made; gone once used."""

    __tablename__ = "bootstrap"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token_hash: Mapped[bytes]
    expires_at: Mapped[Millis]


class WorkloadRow(GivesRights, Table):
    """A job: its public keys, and in development a keyed hash of a client secret.

    A key with ``exp`` (seconds since the epoch) proves nothing from then on: the job has another one.
    """

    __tablename__ = "workloads"
    __table_args__ = (
        _active_names("workloads"),
        partial("ix_workloads_active", "state = 'active'", "id"),
        partial("ix_workloads_revoked", "state = 'revoked'", "id"),
    )
    AUTHENTICATED = ("id", "name", "jwks", "secret_hash", "created_at", "created_by")

    id: Mapped[WorkloadId] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    jwks: Mapped[dict[str, Any]] = mapped_column(JSON)
    secret_hash: Mapped[bytes | None]
    state: Mapped[str]
    created_at: Mapped[Millis]
    created_by: Mapped[str]
    revoked_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"workload": self.id}


class AssertionRow(Table):
    """An assertion id (``jti``) that was used; kept until a day after the assertion has expired."""

    __tablename__ = "used_assertions"

    workload_id: Mapped[WorkloadId] = mapped_column(primary_key=True)
    jti: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[Millis] = mapped_column(index=True)


def signing_binding(kid: str) -> Binding:
    """Where the sealed private half of the key ``kid`` belongs."""
    return Binding("access-token-signing", credential=kid)


class SigningKeyRow(Table):
    """An Ed25519 key that signs access tokens, sealed."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes] = sealed_column(lambda row: signing_binding(row.kid))
    created_at: Mapped[Millis]
