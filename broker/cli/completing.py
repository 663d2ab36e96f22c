"""What a shell's TAB offers for the value of an option or argument, by its name.

Names of customers, jobs and the like are the broker's, asked with the caller's own account.  Whatever keeps it from an
answer, nothing is offered, and nothing is said: what is printed here stands in somebody's command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from typer._click.shell_completion import CompletionItem

from broker.cli import account, whose

if TYPE_CHECKING:
    from typer._click import Context, Parameter

_MOST = "100"
# Shells expand what is offered, or even evaluate it. A name that a shell could read as more than a word isn't offered.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._*@+-]*")

# From what was typed before on the line, the values.
Values = Callable[[Mapping[str, Any], str], Iterable[str]]


def words(*known: str) -> Values:
    """These, whoever asks."""
    return lambda _given, _begun: known


def listed(path: str, field: str, *, by_name: bool = False, **narrowed: str) -> Values:
    """The field of each item of the broker's list.

    Args:
        path: the list's.
        field: has the value.
        by_name: whether the list can be narrowed to names with what was begun.
        narrowed: parameters of the list, each with its value, or ``:NAME`` for what the line has for an option.
    """

    def values(given: Mapping[str, Any], begun: str) -> Iterator[str]:
        params = {name: given.get(value[1:]) if value[0] == ":" else value for name, value in narrowed.items()}
        if by_name and begun:
            params["name"] = begun
        for item in _glanced(path, {name: value for name, value in params.items() if isinstance(value, str) and value}):
            yield item[field]

    return values


def _glanced(path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
    from broker.cli.api import glance  # noqa: PLC0415 - most of what is offered needs no call

    who = account.Account(whose.address(), whose.token())
    items: list[dict[str, Any]] = glance(path, who, limit=_MOST, **params)["items"]
    return items


def _event_kinds(_given: Mapping[str, Any], _begun: str) -> Iterable[str]:
    from broker.audit.events import KINDS  # noqa: PLC0415 - the server's, and seldom asked for

    return sorted({*KINDS, *(f"{kind.partition('.')[0]}.*" for kind in KINDS)})


def _notice_kinds(_given: Mapping[str, Any], _begun: str) -> Iterable[str]:
    from broker.notifications.words import WORDS  # noqa: PLC0415 - likewise

    return sorted(WORDS)


def _presets(given: Mapping[str, Any], _begun: str) -> Iterable[str]:
    for provider in _glanced("/v1/providers", {}):
        if given.get("provider") in {None, provider["id"]}:
            yield from provider["presets"]


def _platforms(_given: Mapping[str, Any], _begun: str) -> Iterable[str]:
    from broker.issuers.presets import PRESETS  # noqa: PLC0415 - seldom asked for

    return PRESETS


def _claims(given: Mapping[str, Any], _begun: str) -> Iterable[str]:
    for issuer in _glanced("/v1/issuers", {}):
        if given.get("issuer") in {None, issuer["id"]}:
            yield from issuer["claims"]


def _profiles(_given: Mapping[str, Any], _begun: str) -> Iterable[str]:
    return account.profiles()


_ORGANIZATIONS = listed("/v1/organizations", "slug", by_name=True)
_WORKLOADS = listed("/v1/workloads", "name", by_name=True)
_PROVIDERS = listed("/v1/providers", "id")

# By the option's or argument's name, and where it means another thing there, by the command's first word and it.
VALUES: Mapping[str, Values] = {
    "--org": _ORGANIZATIONS,
    "organization": _ORGANIZATIONS,
    "--provider": _PROVIDERS,
    "provider": _PROVIDERS,
    "--label": listed("/v1/credentials", "label", organization=":org", provider=":provider"),
    "--workload": _WORKLOADS,
    # A job calls itself by its id.
    "lease --workload": listed("/v1/workloads", "id"),
    "exec --workload": listed("/v1/workloads", "id"),
    "token --workload": listed("/v1/workloads", "id"),
    "--token-from": words("github", "gcp", "azure", "aws"),
    "workload": _WORKLOADS,
    "--profile": _profiles,
    "profile name": _profiles,
    "--preset": _presets,
    "--credential": listed("/v1/credentials", "id"),
    "credential": listed("/v1/credentials", "id"),
    "request": listed("/v1/intakes", "id", state="open"),
    "--grant": listed("/v1/grants", "id"),
    "grant": listed("/v1/grants", "id", state="active"),
    "review": listed("/v1/reviews", "id", state="due"),
    "review --state": words("scheduled", "due", "overdue", "decided", "ended"),
    "review --decision": words("keep", "revoke", "tighten"),
    "--method": words("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
    "subject": listed("/v1/grants", "id", state="active"),
    "--lease": listed("/v1/leases", "id"),
    "lease_id": listed("/v1/leases", "id", state="active"),
    "issuer": listed("/v1/issuers", "id"),
    "--issuer": listed("/v1/issuers", "id"),
    "issuer --issuer": words(),
    "issuer preset": _platforms,
    "trust --claim": _claims,
    "trust_id": listed("/v1/trusts", "id", state="active"),
    "rotation_id": listed("/v1/rotations", "id"),
    "exposure_id": listed("/v1/exposures", "id"),
    "session_id": listed("/v1/sessions", "id"),
    "passkey_id": listed("/v1/passkeys", "id"),
    "identity_id": listed("/v1/identities", "id"),
    "webhook_id": listed("/v1/webhooks", "id", state="active"),
    "delivery_id": listed("/v1/notices/deliveries", "id", state="dead"),
    "operator": listed("/v1/operators", "name", by_name=True),
    "operator_id": listed("/v1/operators", "id"),
    "audit --kind": _event_kinds,
    "notice --kind": _notice_kinds,
    "webhook --kind": _notice_kinds,
    "--role": words("operator", "security", "admin"),
    "--mode": words("use", "reveal"),
    "--operator": listed("/v1/operators", "name", by_name=True),
    "--decision": words("allowed", "denied"),
    "--outcome": words("succeeded", "failed", "2xx", "3xx", "4xx", "5xx", "none"),
    "--on-max-age": words("warn", "refuse"),
    "--format": words("standard", "slack"),
    "key --only": words(
        "due_soon",
        "overdue",
        "never_used",
        "failing",
        "unreachable",
        "gone",
        "paused",
        "rotating",
        "awaiting_revocation",
    ),
    "org --state": words("active", "revoked"),
    "workload --state": words("active", "revoked"),
    "trust --state": words("active", "revoked"),
    "key --state": words("staged", "verified", "active", "retiring", "revoked", "destroyed"),
    "rotation --state": words(
        "requested", "verifying", "held", "grace", "failing", "completed", "rolled_back", "cancelled"
    ),
    "grant --state": words("active", "waiting", "expired", "revoked", "altered"),
    "lease --state": words("active", "expired", "ended", "revoked"),
    "notice --state": words("pending", "sent", "dead"),
    "incident --state": words("open", "closed"),
    "webhook --state": words("active", "disabled", "revoked"),
    "operator --state": words("active", "waiting", "expired", "revoked", "altered"),
}


def complete(parameter: Parameter, group: str) -> None:
    """Let a parameter of a command of ``group`` offer its values."""
    name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name
    found = VALUES.get(f"{group} {name}") or VALUES.get(str(name))
    if found is None:
        return

    def offered(ctx: Context, incomplete: str) -> list[CompletionItem]:
        with suppress(Exception):  # see above
            values = dict.fromkeys(value for value in found(ctx.params, incomplete) if _WORD.fullmatch(value))
            return [CompletionItem(value) for value in values if value.startswith(incomplete)]
        return []

    parameter.shell_complete = offered  # type: ignore[method-assign]  # of this one, as the class knows no names
