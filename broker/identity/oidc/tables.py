"""Rows of people's sign-ins by a provider."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from broker.base.clock import Millis
from broker.base.db import Table
from broker.formats.envelope import Binding
from broker.formats.ids import IdentityId, OperatorId, SessionId
from broker.keystore.columns import sealed_column
from broker.keystore.genuine import GivesRights


class PendingRow(Table):
    """A sign-in that a browser has begun; gone once used.

    No secret of it stands here: they are made of the state and of the browser's cookie, which ``seal`` binds to the
    rest of the row (:mod:`broker.identity.oidc.pending`).
    """

    __tablename__ = "pending_sign_ins"

    state_hash: Mapped[bytes] = mapped_column(primary_key=True)
    seal: Mapped[bytes]
    provider: Mapped[str]
    session_id: Mapped[SessionId | None]
    destination: Mapped[str]
    begun_at: Mapped[Millis]
    expires_at: Mapped[Millis] = mapped_column(index=True)


class IdentityRow(GivesRights, Table):
    """Whose account a provider's person has."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject", name="uq_identities_issuer_subject"),)
    AUTHENTICATED = ("id", "account_id", "issuer", "subject", "created_at", "created_by")

    id: Mapped[IdentityId] = mapped_column(primary_key=True)
    account_id: Mapped[OperatorId] = mapped_column(index=True)
    issuer: Mapped[str]
    subject: Mapped[str]
    created_at: Mapped[Millis]
    created_by: Mapped[str]


def recheck_binding(identity_id: IdentityId) -> Binding:
    """Where the sealed refresh token of a person belongs."""
    return Binding("sign-in-refresh", credential=identity_id)


class RecheckRow(Table):
    """By what a provider is asked whether a person still may be here, and when it last said so.

    It is there for as long as the person has a session by that provider.
    """

    __tablename__ = "identity_rechecks"

    identity_id: Mapped[IdentityId] = mapped_column(primary_key=True)
    sealed: Mapped[bytes] = sealed_column(lambda row: recheck_binding(row.identity_id), own=True)
    checked_at: Mapped[Millis] = mapped_column(index=True)


class LogoutTokenRow(Table):
    """A provider's logout token that was used; kept until a day after it has expired."""

    __tablename__ = "used_logout_tokens"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    jti: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[Millis] = mapped_column(index=True)
