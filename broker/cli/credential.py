"""Commands that are about one credential: it is named by its id, or as people think of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from broker.cli.api import call, pages
from broker.cli.failing import Status, fail
from broker.cli.signature import Options, take_options

_NAMES: Options = {
    "org": (Annotated[str, typer.Option("--org", help="The key's organization: slug or id.")], ""),
    "provider": (Annotated[str, typer.Option(help="The key's provider.")], ""),
    "label": (Annotated[str, typer.Option(help="Which of several keys of one organization.")], "default"),
}
_CREDENTIAL: Options = {
    "credential": (
        Annotated[str, typer.Argument(help="Its id, crd_…; or name it by --org, --provider and --label.")],
        "",
    ),
    **_NAMES,
}
_REQUEST: Options = {
    "request": (Annotated[str, typer.Argument(help="Its id, int_…; or name it by --org, --provider and --label.")], ""),
    **_NAMES,
}


def about_a_credential(command: Callable[..., None]) -> Callable[..., None]:
    """Let ``command`` be told its credential by id, or by organization, provider and label.

    The command gets the id as ``_credential_id``.  It ends with status 2 if neither is given whole, and with 4 if
    there is no such credential.
    """

    @wraps(command)
    def named(credential: str, org: str, provider: str, label: str, **options: Any) -> None:
        command(_credential_id=credential_id(credential, org, provider, label), **options)

    take_options(named, command, before=_CREDENTIAL)
    return named


def credential_id(credential: str, org: str, provider: str, label: str) -> str:
    """The credential's id; see :func:`about_a_credential`."""
    return credential if _by_id(credential, org, provider) else str(_found(org, provider, label)["id"])


def _by_id(given: str, org: str, provider: str) -> bool:
    """Whether something is named by its id; ends the command if it isn't named at all, or twice."""
    if bool(given) == bool(org or provider) or bool(org) != bool(provider):
        fail(
            "Name it by its id, or by --org and --provider (and --label), as `broker key list` shows them.",
            Status.USAGE,
            "usage",
        )
    return bool(given)


def _found(org: str, provider: str, label: str) -> dict[str, Any]:
    """The credential that is in use under these names; else the last one that was.

    A label whose credential was revoked can be used again.
    """
    found = list(pages("/v1/credentials", organization=org, provider=provider, label=label))
    if not found:
        fail(
            f"{org} has no key of {provider} with the label {label}; `broker key list --org {org}` shows its keys.",
            Status.NOT_FOUND,
            "unknown_credential",
        )
    return next((one for one in found if one["state"] != "revoked"), found[-1])


def about_a_request(command: Callable[..., None]) -> Callable[..., None]:
    """Let ``command`` be told an open request by its id, or by organization, provider and label.

    The command gets the id as ``_intake_id``; it ends as :func:`about_a_credential` says.
    """

    @wraps(command)
    def named(request: str, org: str, provider: str, label: str, **options: Any) -> None:
        command(_intake_id=_request_id(request, org, provider, label), **options)

    take_options(named, command, before=_REQUEST)
    return named


def _request_id(request: str, org: str, provider: str, label: str) -> str:
    if _by_id(request, org, provider):
        return request
    found = list(pages("/v1/intakes", organization=org, provider=provider, label=label, state="open"))
    if not found:
        fail(
            f"No request of {org} for a key of {provider} with the label {label} is open; `broker key list` shows "
            "those that are.",
            Status.NOT_FOUND,
            "unknown_intake",
        )
    if len(found) > 1:
        ids = ", ".join(one["id"] for one in found)
        fail(f"{len(found)} requests for this key are open; name one by its id: {ids}.", Status.CONFLICT, "several")
    return str(found[0]["id"])


def newest_version(credential_id: str) -> int:
    """The number of the credential's newest version."""
    return max((held["number"] for held in call("GET", f"/v1/credentials/{credential_id}")["versions"]), default=1)
