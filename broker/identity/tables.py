"""Rows of operators, workloads, used assertions, and the keys that sign access tokens."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Actor, Fields
from broker.base.clock import Millis
from broker.base.db import Table, partial
from broker.formats.envelope import Binding
from broker.formats.ids import (
    AccountLinkId,
    DeviceSignInId,
    OperatorId,
    OrganizationId,
    PasskeyId,
    SessionId,
    WorkloadId,
)
from broker.keystore.columns import sealed_column
from broker.keystore.genuine import GivesRights

MACHINE: Final = "machine"
PERSON: Final = "person"


def _active_names(table: str) -> Index:
    """Of several rows with one name at most one is active.

    So a name is free again once its holder has ended.
    """
    active = text("state = 'active'")
    return Index(f"uq_{table}_active", "name", unique=True, sqlite_where=active, postgresql_where=active)


class AccountRow(GivesRights, Table):
    """A person's account, or a machine's.

    A machine has a token for ``token_days``, of which only the keyed hash is kept.  A person signs in, so nobody knows
    a token of that hash.  If ``kind`` is empty, it is a person of an older release, who has a token until it ends.
    ``created_by`` is the account that made it, "" if it was made with a one-time token.  With ``needs_approval`` it may
    do nothing until a second person sets ``approved_by``.  Once the token was renewed, the previous one holds until
    ``previous_until``.
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
        "kind",
        "token_days",
    )
    ADDED = frozenset({"previous_token_hash", "previous_until", "kind", "token_days"})

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
    kind: Mapped[str | None]
    token_days: Mapped[int | None]
    revoked_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"subject": self.id}

    def as_actor(self, address: str = "", agent: str = "") -> Actor:
        """How the record names whoever has the account."""
        return Actor("operator", self.id, self.name, address, agent)

    @property
    def ends_at(self) -> Millis | None:
        """When its token ends, and with it the account; None if it is a person's."""
        return None if self.kind == PERSON else self.expires_at

    @property
    def is_machine(self) -> bool:
        """Whether nobody signs in to it."""
        return self.kind == MACHINE


class SessionRow(GivesRights, Table):
    """A person who signed in, in a browser or on a command line.

    Only the keyed hash of the token is kept.  ``way`` is how they proved who they are, last at ``authenticated_at``.
    ``issuer`` and ``issuer_session`` are their identity provider, and what that one calls the session.  Times are in
    milliseconds; when it was last seen and ended takes rights away alone.
    """

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_issuer", "issuer", "issuer_session"),)
    AUTHENTICATED = (
        "id",
        "account_id",
        "token_hash",
        "client",
        "way",
        "issuer",
        "issuer_session",
        "created_at",
        "authenticated_at",
        "ends_at",
    )

    id: Mapped[SessionId] = mapped_column(primary_key=True)
    account_id: Mapped[OperatorId] = mapped_column(index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    client: Mapped[str]
    way: Mapped[str]
    issuer: Mapped[str]
    issuer_session: Mapped[str]
    address: Mapped[str]
    agent: Mapped[str]
    created_at: Mapped[Millis]
    authenticated_at: Mapped[Millis]
    ends_at: Mapped[Millis] = mapped_column(index=True)
    seen_at: Mapped[Millis]
    ended_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"subject": self.account_id, "mode": self.way}


class LinkRow(GivesRights, Table):
    """A one-time link by which a person gets into an account; gone once used.

    With a ``challenge`` (RFC 7636) it is a command line's, and carries on how the person signed in to the browser.
    """

    __tablename__ = "one_time_links"
    AUTHENTICATED = (
        "id",
        "account_id",
        "secret_hash",
        "challenge",
        "way",
        "issuer",
        "issuer_session",
        "authenticated_at",
        "created_at",
        "created_by",
        "expires_at",
    )

    id: Mapped[AccountLinkId] = mapped_column(primary_key=True)
    account_id: Mapped[OperatorId] = mapped_column(index=True)
    secret_hash: Mapped[bytes] = mapped_column(unique=True)
    challenge: Mapped[str]
    way: Mapped[str]
    issuer: Mapped[str]
    issuer_session: Mapped[str]
    authenticated_at: Mapped[Millis]
    created_at: Mapped[Millis]
    created_by: Mapped[str]
    expires_at: Mapped[Millis] = mapped_column(index=True)


class DeviceSignInRow(GivesRights, Table):
    """A command line without a browser that waits for its person; gone once it has its session.

    Only keyed hashes of its secret and of its code are kept.  ``address`` and ``agent`` are those of whoever asked.
    ``session_id`` is the browser's session in which its person allowed it.  Asking on and a refusal take rights away
    alone.
    """

    __tablename__ = "device_sign_ins"
    AUTHENTICATED = (
        "id",
        "secret_hash",
        "code_hash",
        "address",
        "agent",
        "session_id",
        "created_at",
        "expires_at",
    )

    id: Mapped[DeviceSignInId] = mapped_column(primary_key=True)
    secret_hash: Mapped[bytes] = mapped_column(unique=True)
    code_hash: Mapped[bytes] = mapped_column(unique=True)
    address: Mapped[str]
    agent: Mapped[str]
    session_id: Mapped[SessionId | None]
    created_at: Mapped[Millis]
    expires_at: Mapped[Millis] = mapped_column(index=True)
    asked_at: Mapped[Millis]
    refused_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"reason": self.id}


class BootstrapRow(Table):
    """The one-time token with which the first operator is made; gone once used."""

    __tablename__ = "bootstrap"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token_hash: Mapped[bytes]
    expires_at: Mapped[Millis]


class PasskeyRow(GivesRights, Table):
    """A person's passkey: the public half of a key pair that their device holds.

    ``sign_count`` is how often it was used, as far as it says; one that is on several devices says 0.  Its name is its
    owner's.
    """

    __tablename__ = "passkeys"
    AUTHENTICATED = ("id", "account_id", "credential_id", "public_key", "sign_count", "name", "created_at")

    id: Mapped[PasskeyId] = mapped_column(primary_key=True)
    account_id: Mapped[OperatorId] = mapped_column(index=True)
    credential_id: Mapped[bytes] = mapped_column(unique=True)
    public_key: Mapped[bytes]
    sign_count: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str]
    backed_up: Mapped[bool]
    created_at: Mapped[Millis]
    last_used_at: Mapped[Millis | None]

    def event_fields(self) -> Fields:
        return {"subject": self.id}


class UsedCeremonyRow(Table):
    """The challenge of a ceremony that was finished; kept until it has expired long since."""

    __tablename__ = "used_ceremonies"

    challenge: Mapped[bytes] = mapped_column(primary_key=True)
    used_at: Mapped[Millis] = mapped_column(index=True)


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
