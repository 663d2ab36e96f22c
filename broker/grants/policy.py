"""Who may lease what: one pure function from facts to a decision.

A decision is a value, so that its event can be recorded before it is answered.  Facts come from one snapshot; whether
they still hold is the guards' question, at commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TTL_S = 300


class Mode(StrEnum):
    """How a key is reached: through the proxy without seeing it, or by seeing it."""

    USE = "use"
    REVEAL = "reveal"


@dataclass(frozen=True, slots=True)
class Terms:
    """What one grant allows.  Times are milliseconds, ``max_ttl`` seconds; ``label`` None covers every label."""

    id: str
    provider: str
    label: str | None
    modes: frozenset[Mode]
    max_ttl: int
    purpose_required: bool
    expires_at: int | None
    active: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the request's subjects.  None where the subject doesn't exist."""

    workload_active: bool
    organization_active: bool | None
    credential_active: bool | None
    version: int | None
    grants: Sequence[Terms]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a workload asks for.  ``ttl`` is in seconds; None for the default."""

    provider: str
    label: str
    mode: Mode
    purpose: str = ""
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """Yes, under this grant, for this many seconds and never beyond ``until`` (milliseconds)."""

    grant: str
    ttl: int
    until: int | None


@dataclass(frozen=True, slots=True)
class Denied:
    """No; ``reason`` is stable and ``need`` says what would change the answer."""

    reason: str
    need: str


def decide(ask: Ask, facts: Facts, now: int) -> Allowed | Denied:
    """May the workload have this lease at ``now`` (milliseconds)?

    Without a standing grant the answer says nothing about the organization: not even whether it exists.
    """
    if not facts.workload_active:
        return Denied("workload_revoked", "This workload was revoked; ask an operator to register it again.")
    standing = [grant for grant in facts.grants if _covers(grant, ask, now)]
    if facts.organization_active is None or not standing:
        return Denied("no_grant", "No standing grant covers this organization and provider; ask an operator for one.")
    if not facts.organization_active:
        return Denied("organization_revoked", "This organization was cut off.")
    fitting = [grant for grant in standing if ask.mode in grant.modes]
    if not fitting:
        return Denied("mode_not_granted", f"The grant doesn't include {ask.mode!s}; ask an operator for that mode.")
    fitting = [grant for grant in fitting if ask.purpose.strip() or not grant.purpose_required]
    if not fitting:
        return Denied("purpose_required", "The grant needs a purpose; say in `purpose` what the access is for.")
    if not facts.credential_active or facts.version is None:
        return Denied("no_active_key", "There is no active key here; an operator can request one from the customer.")
    grant = max(fitting, key=lambda terms: (terms.max_ttl, terms.id))
    return Allowed(grant.id, min(ask.ttl or DEFAULT_TTL_S, grant.max_ttl), grant.expires_at)


def _covers(grant: Terms, ask: Ask, now: int) -> bool:
    return (
        grant.active
        and grant.provider == ask.provider
        and grant.label in {None, ask.label}
        and (grant.expires_at is None or grant.expires_at > now)
    )
