"""Who may lease what, and what a use may do: pure functions from facts to a decision.

A decision is a value, so that its event can be recorded before it is answered.  Its input comes from one snapshot.  At
commit the guards say whether it still holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from broker.base.clock import Millis
from broker.base.parameters import read
from broker.formats.ids import GrantId, OrganizationId, Reference, WorkloadId
from broker.providers.rule import Rule

DEFAULT_TTL_S = 300
# Parameters from which some frameworks take another method than the one that was judged: Rails, Laravel and Symfony the
# first one, ServiceStack and gateways for OData the others.
_OVERRIDES = frozenset(
    {"_method", "_http_method", "http_method_override", "x_http_method", "x_http_method_override", "x_method_override"}
)


class Mode(StrEnum):
    """How a key is reached: through the proxy without seeing it, or by seeing it."""

    USE = "use"
    REVEAL = "reveal"


class Call(Protocol):
    """What a grant's rules look at in a proxied call, which itself is ``proxy/use``'s.

    ``method`` is in capitals, ``path`` as it will be sent, ``query`` as received.
    """

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...


class Rate(NamedTuple):
    """So many uses at once, refilled evenly over so many seconds."""

    uses: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What one grant allows.  Times are milliseconds, ``max_ttl`` seconds.

    ``label`` None covers every label.  ``rules`` empty allows every method and path.  ``rate`` and ``max_uses`` None
    don't limit.  ``implicit`` lets the job call the proxy with its access token alone.  Without ``retries`` the broker
    sends no call a second time.  If it is ``bound``, its leases are of use only to whoever holds the job's key.
    """

    id: GrantId
    provider: str
    label: str | None
    modes: frozenset[Mode]
    max_ttl: int
    purpose_required: bool
    expires_at: Millis | None
    active: bool
    rules: tuple[Rule, ...] = ()
    rate: Rate | None = None
    max_uses: int | None = None
    implicit: bool = False
    retries: bool = True
    bound: bool = False


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """What is known of the request's subjects.  None if the subject doesn't exist.

    Rows that something else than the broker wrote count as none; ``altered`` says that there are such.  ``key_until``
    is when the key becomes too old to be used (milliseconds); None if age only warns.
    """

    workload_active: bool
    organization_active: bool | None
    credential_active: bool | None
    version: int | None
    grants: Sequence[Grant]
    altered: bool = False
    key_failing: bool = False
    paused: bool = False
    key_until: Millis | None = None


class AccessTarget(NamedTuple):
    """Whose request for which key."""

    workload_id: WorkloadId
    organization_reference: Reference | OrganizationId  # id or slug, as the caller wrote it
    provider: str
    label: str


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """What a workload asks for.  ``ttl`` is in seconds; None for the default.

    ``grant`` names one of several grants.  ``call`` is the proxied call that an implicit lease is for.  ``via`` has the
    ids that its access token stands on beside the workload, ``jkt`` the name of the key that it is bound to ("" if it
    is to none).  With ``bound`` the lease is to be bound to it as well.
    """

    target: AccessTarget
    mode: Mode
    purpose: str = ""
    ttl: int | None = None
    grant: str = ""
    call: Call | None = None
    via: tuple[str, ...] = ()
    jkt: str = ""
    bound: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """Yes, under this grant, for this many seconds and never beyond ``until`` (milliseconds)."""

    grant: GrantId
    ttl: int
    until: Millis | None


@dataclass(frozen=True, slots=True)
class Denied:
    """No; ``reason`` is stable and ``need`` says what would change the answer."""

    reason: str
    need: str
    allowed: tuple[str, ...] = ()


class Uncovered(StrEnum):
    """Why a grant doesn't cover a request."""

    NOT_IN_FORCE = "not_in_force"  # revoked, or it waits for a second person
    EXPIRED = "expired"
    OTHER_PROVIDER = "other_provider"
    OTHER_LABEL = "other_label"
    NOT_NAMED = "not_named"  # the request names another one


RIGHTS_ALTERED = Denied(
    "rights_altered",
    "What this access stands on was changed by something else than the broker; a security account has to look "
    "(`broker doctor --rights`).",
)

KEY_NEEDED = Denied(
    "bound_token_required",
    "A bound lease needs an access token that is bound to a key (DPoP, RFC 9449): send a DPoP proof with the token "
    "request, as the Python client and `broker exec` do by themselves; see docs/how-to/bind-tokens.md.",
)


def decide(request: AccessRequest, policy_input: PolicyInput, now: Millis) -> Allowed | Denied:
    """Whether the workload may have this lease at ``now`` (milliseconds).

    Without a standing grant the answer says nothing about the organization: not even whether it exists.
    """
    # lease (6) the decision, a value
    decision = _decide(request, policy_input, now)
    return RIGHTS_ALTERED if isinstance(decision, Denied) and policy_input.altered else decision


def _decide(request: AccessRequest, known: PolicyInput, now: Millis) -> Allowed | Denied:
    if not known.workload_active:
        return Denied("workload_revoked", "This workload was revoked; ask an operator to register it again.")
    standing = [grant for grant in known.grants if uncovered(grant, request, now) is None]
    if known.organization_active is None or not standing:
        return Denied("no_grant", "No standing grant covers this organization and provider; ask an operator for one.")
    if not known.organization_active:
        return Denied("organization_revoked", "This organization was cut off.")
    fitting = _fitting(request, standing)
    if isinstance(fitting, Denied):
        return fitting
    if not known.credential_active or known.version is None:
        return Denied("no_active_key", "There is no active key here; an operator can request one from the customer.")
    if denied := refuse_key(known, now):
        return denied
    # The least restricted one, then the longest: a job that means another names it.
    grant = max(fitting, key=lambda one: (not one.rules, one.max_ttl, one.id))
    return Allowed(grant.id, min(request.ttl or DEFAULT_TTL_S, grant.max_ttl), grant.expires_at)


def refuse_key(known: PolicyInput, now: Millis) -> Denied | None:
    """Why nobody may use the key at ``now`` although it is there; None if it may be used."""
    if known.paused:
        return Denied("key_paused", "The customer paused the use of this key; it works again once they resume it.")
    if known.key_failing:
        return Denied(
            "key_failing",
            "The upstream refuses this key: it was revoked there, or has expired. Operators were told; the customer "
            "has to give a new one.",
        )
    if known.key_until is not None and known.key_until <= now:
        return Denied(
            "key_too_old",
            "This key is older than its policy allows; an operator has to rotate it (`broker key rotate`) before it "
            "can be used again.",
        )
    return None


def _fitting(request: AccessRequest, standing: Sequence[Grant]) -> Sequence[Grant] | Denied:
    """The standing grants that carry what is asked, or why none does."""
    fitting = [grant for grant in standing if request.mode in grant.modes]
    if not fitting:
        return Denied("mode_not_granted", f"The grant doesn't include {request.mode!s}; ask an operator for that mode.")
    fitting = [grant for grant in fitting if request.purpose.strip() or not grant.purpose_required]
    if not fitting:
        return Denied("purpose_required", "The grant needs a purpose; say in `purpose` what the access is for.")
    fitting = [grant for grant in fitting if request.jkt or not (grant.bound or request.bound)]
    if not fitting:
        return KEY_NEEDED
    if request.call is None:
        return fitting
    fitting = [grant for grant in fitting if grant.implicit]
    if not fitting:
        return Denied(
            "lease_required",
            "The grant doesn't allow calls without a lease; get one (POST /v1/leases) and send its token.",
        )
    allowing = [grant for grant in fitting if refuse_call(grant, request.call) is None]
    return allowing or refuse_call(fitting[0], request.call) or fitting


def refuse_call(grant: Grant, call: Call) -> Denied | None:
    """Why the grant's rules refuse a proxied call; None if they allow it.

    Raises:
        QueryRefused: the names of its parameters can't be told.
    """
    # call (8) whether its grant allows it
    if not grant.rules:
        return None
    if deciding_rule(grant, call) is not None:
        if any(not _OVERRIDES.isdisjoint(parameter.readings) for parameter in read(call.query)):
            return Denied(
                "rule_refused",
                "The grant limits methods, so a parameter that names another one, such as `_method`, is refused in the "
                "query, however it is spelled; remove it.",
            )
        return None
    allowed = tuple(str(rule) for rule in grant.rules)
    return Denied(
        "rule_refused",
        f"Grant {grant.id} allows only {' | '.join(allowed)}. {call.method} on this path needs a grant with a rule "
        "for it; ask an operator (`broker grant add … --allow`).",
        allowed,
    )


def deciding_rule(grant: Grant, call: Call) -> Rule | None:
    """The first of the grant's rules that allows the call's method and path, if one does."""
    return next((rule for rule in grant.rules if rule.allows(call.method, call.path)), None)


def uncovered(grant: Grant, request: AccessRequest, now: Millis) -> Uncovered | None:
    """Why a grant is none for the request at ``now``, whatever it carries; None if it covers it."""
    if not grant.active:
        return Uncovered.NOT_IN_FORCE
    if grant.expires_at is not None and grant.expires_at <= now:
        return Uncovered.EXPIRED
    if grant.provider != request.target.provider:
        return Uncovered.OTHER_PROVIDER
    if grant.label not in {None, request.target.label}:
        return Uncovered.OTHER_LABEL
    return None if request.grant in {"", grant.id} else Uncovered.NOT_NAMED
