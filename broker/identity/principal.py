"""Who a request speaks for, once established.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.audit.events import Actor
from broker.base.db import EVERY_TENANT, Scope
from broker.formats.ids import OperatorId, OrganizationId, WorkloadId


class Role(StrEnum):
    """What an operator may do."""

    OPERATOR = "operator"
    SECURITY = "security"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Account:
    """A person at the vendor.

    ``organizations`` limits them to some customers; None means every one.
    """

    id: OperatorId
    name: str
    roles: frozenset[Role]
    organizations: frozenset[OrganizationId] | None

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


@dataclass(frozen=True, slots=True)
class Workload:
    """A job, established by its access token."""

    id: WorkloadId
    name: str

    def actor(self, address: str = "", agent: str = "") -> Actor:
        """How the record names it."""
        return Actor("workload", self.id, self.name, address, agent)
