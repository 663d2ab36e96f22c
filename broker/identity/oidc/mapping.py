"""What a person may do by what their provider says of them.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.identity.oidc.providers import Mapped, Provider
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.principal import Role

# Reasons of refusals by which somebody may do nothing here, whatever they could before.
NOTHING: Final = frozenset({"no_role", "roles_mixed", "claim_missing", "claim_overage"})


@dataclass(frozen=True, slots=True)
class Rights:
    """Roles, and the customers that they are for, by name; None is every one."""

    roles: frozenset[Role]
    organizations: frozenset[str] | None


def rights(provider: Provider, claims: Mapping[str, Any]) -> Rights:
    """What these claims give: all that their values are mapped to, and nothing else.

    Raises:
        SignInRefused: nothing, or the claim isn't there or isn't whole, or no account could be given just that.
    """
    values = _values(provider.roles_claim, claims)
    given = [one for one in provider.role if one.value in values]
    if not given:
        raise SignInRefused("no_role")
    roles = frozenset(role for one in given for role in one.roles)
    limits = _limits(given)
    if any(_limits([one for one in given if role in one.roles]) != limits for role in roles):
        raise SignInRefused("roles_mixed")
    return Rights(roles, limits)


def _limits(given: list[Mapped]) -> frozenset[str] | None:
    if any(one.organizations is None for one in given):
        return None
    return frozenset(name for one in given for name in one.organizations or ())


def _values(claim: str, claims: Mapping[str, Any]) -> frozenset[str]:
    # What doesn't fit into a token is only pointed to (Entra ID does so beyond 200 groups).
    elsewhere = claims.get("_claim_names")
    if claims.get("hasgroups") or (isinstance(elsewhere, Mapping) and claim in elsewhere):
        raise SignInRefused("claim_overage")
    found = claims.get(claim)
    if isinstance(found, str):
        return frozenset({found})
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise SignInRefused("claim_missing")
    return frozenset(found)
