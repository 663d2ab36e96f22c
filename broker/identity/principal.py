"""Who a request speaks for, once established.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.audit.events import Actor
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Scope
from broker.formats.ids import OperatorId, OrganizationId, SessionId, WorkloadId


class Role(StrEnum):
    """What an operator may do."""

    OPERATOR = "operator"
    SECURITY = "security"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Session:
    """A person's session, as a request found it.

    ``authenticated_at`` is when they last proved in it who they are, ``seen_at`` when it was last seen in use.
    """

    id: SessionId
    client: str
    authenticated_at: Millis
    seen_at: Millis


@dataclass(frozen=True, slots=True)
class Account:
    """A person at the vendor, or a machine that acts for them.

    ``organizations`` limits them to some customers; None means every one.  A person has a ``session``,
    a machine none.
    """

    id: OperatorId
    name: str
    roles: frozenset[Role]
    organizations: frozenset[OrganizationId] | None
    session: Session | None = None

    @property
    def scope(self) -> Scope:
        """The tenants that this operator may see."""
        return EVERY_TENANT if self.organizations is None else Scope(self.organizations)

    def may(self, *roles: Role) -> bool:
        """Whether this operator has one of these roles, or ``admin``."""
        return Role.ADMIN in self.roles or not self.roles.isdisjoint(roles)

    def actor(self, address: str = "", agent: str = "") -> Actor:
        """How the record names them."""
        return Actor("operator", self.id, self.name, address, agent)


Via = tuple[str, ...]
"""The ids that a token or lease stands on beside its workload: its trust, and its issuer's era."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A job, established by its access token.

    ``via`` has the ids that the token stands on beside the job, ``jkt`` the name of the key that it is bound to (DPoP);
    "" if it is to none.
    """

    id: WorkloadId
    name: str
    via: Via = ()
    jkt: str = ""

    def actor(self, address: str = "", agent: str = "") -> Actor:
        """How the record names it."""
        return Actor("workload", self.id, self.name, address, agent)
