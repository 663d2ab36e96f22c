"""``broker key``: ask customers for keys, look after them, cut them off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from broker.cli.api import call, pages
from broker.cli.asking import Yes, insist_on_ending
from broker.cli.credential import about_a_credential, about_a_request, newest_version
from broker.cli.failing import fail
from broker.cli.lists import prints_list
from broker.cli.operator import read_secret
from broker.cli.output import AsJson, Columns, Item, Wide, listing, say, show
from broker.cli.saving import Out, save

app = typer.Typer(no_args_is_help=True, help="Customers' keys.")

Org = Annotated[str, typer.Option("--org", help="Organization: slug or id.")]
Provider = Annotated[str, typer.Option(help="Provider id; `broker provider list` shows them.")]
Label = Annotated[str, typer.Option(help="Tells several keys of one organization apart.")]
Reason = Annotated[str, typer.Option(help="For the record.")]
Version = Annotated[int, typer.Option("--version", help="Its number, as `broker key list` shows it.")]

_COLUMNS = Columns("org provider label version status", "credential health last4 awaiting_days staged_at")
_VERSIONS = Columns("version status health last4 fingerprint", "awaiting_days staged_at activated_at")
_HOLDERS = Columns(
    "name holds_until open_leases open_reveals", "uses last_use reveals last_revealed open_uses workload"
)
# A key in one of these states isn't used any more, nor will it be.
_OVER = frozenset({"revoked", "destroyed"})
_OF_VERSIONS = (
    "version",
    "state",
    "status",
    "verdict",
    "health",
    "last4",
    "fingerprint",
    "staged_at",
    "verified_at",
    "activated_at",
    "retired_at",
    "revoked_at",
    "revocation_confirmed_at",
    "awaiting_days",
    "destroyed_at",
)


@app.command()
def request(
    org: Org,
    provider: Provider,
    contact: Annotated[str, typer.Option("--from", help="The Organization Admin's e-mail address.")],
    label: Label = "default",
    purpose: Annotated[str, typer.Option(help="Shown to the customer: what the key is for.")] = "",
    hours: Annotated[int, typer.Option(help="How long the link lasts.")] = 72,
    as_json: AsJson = False,
) -> None:
    """Make a one-time link for a customer's Organization Admin; send it by your own channel."""
    wanted = {
        "organization": org,
        "provider": provider,
        "label": label,
        "contact": contact,
        "purpose": purpose,
        "hours": hours,
    }
    made = call("POST", "/v1/intakes", json=wanted)
    if as_json:
        show(made, as_json)
        return
    say(f"Send this link to {contact}; it works once, until {made['intake']['expires_at']}:\n")
    say(made["link"])
    _say_also_open(made)


@app.command()
def add(
    org: Org,
    provider: Provider,
    label: Label = "default",
    contact: Annotated[str, typer.Option("--contact", "--from", help="The Organization Admin's e-mail address.")] = "",
    variable: Annotated[list[str] | None, typer.Option(help="name=value of the provider's host; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take a key that came another way: its value from standard input only, never from an argument."""
    pairs = [item.partition("=") for item in variable or []]
    if any(not separator for _, separator, _ in pairs):
        fail("--variable: write name=value.")
    wanted = {
        "organization": org,
        "provider": provider,
        "label": label,
        "key": read_secret("Key"),
        "variables": {name: value for name, _, value in pairs},
        "contact": contact,
    }
    made = call("POST", "/v1/credentials", json=wanted)
    show({"credential": made["credential"], "verdict": made["verdict"], **made["version"]}, as_json)


@app.command("list")
@prints_list(
    _COLUMNS,
    lambda row: {**row, "org": row["organization"], "credential": row["credential"] or row["intake"]},
)
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    label: Annotated[str | None, typer.Option(help="Only this label.")] = None,
    state: Annotated[
        str | None,
        typer.Option(help="Only versions in this state: staged, verified, active, retiring, revoked or destroyed."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="due_soon, overdue, never_used, failing, unreachable, gone, paused, rotating or awaiting_revocation."
        ),
    ] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also revoked and destroyed versions.")] = False,
) -> Iterable[Item]:
    """Keys that are held, and requests that wait for a customer."""
    narrowed: dict[str, Any] = {"organization": org, "provider": provider, "label": label}
    if only is None and state is None:
        for one in pages("/v1/keys", **narrowed):
            if one["credential"]:
                yield from _versions_of(one["credential"], None, ended=ended)
            if one["request"]:
                yield _awaited(one["request"])
        return
    for credential in pages("/v1/credentials", only=only, **narrowed):
        yield from _versions_of(credential, state, ended=ended or only is not None)


def _versions_of(credential: Item, state: str | None, *, ended: bool) -> Iterable[Item]:
    for version in credential["versions"]:
        if _wanted(version, state, ended=ended):
            yield _held(credential, version)


def _wanted(version: Item, state: str | None, *, ended: bool) -> bool:
    if state is not None:
        return bool(version["state"] == state)
    # What upstream may still take is not over yet.
    return ended or version["state"] not in _OVER or version["awaiting_days"] is not None


def _held(credential: Item, version: Item) -> Item:
    about = {name: value for name, value in version.items() if name not in {"number", "intake"}}
    return {**_row(credential, "key", credential["id"], version["intake"]), **about, "version": version["number"]}


def _awaited(intake: Item) -> Item:
    row = _row(intake, "request", intake["credential"], intake["id"])
    status = "rotation requested" if intake["rotation"] else "requested"
    return {**row, "state": "requested", "status": status, "staged_at": intake["created_at"]}


def _row(of: Item, kind: str, credential: str | None, intake: str | None) -> dict[str, Any]:
    """What a held key and a request have in common; every row has the same fields."""
    return {
        "kind": kind,
        "organization": of["organization_slug"],
        "organization_id": of["organization"],
        "provider": of["provider"],
        "label": of["label"],
        "credential": credential,
        "intake": intake,
        "contact": of["contact"],
        **dict.fromkeys(_OF_VERSIONS),
    }


@app.command("show")
@about_a_credential
def show_(_credential_id: str, as_json: AsJson = False) -> None:
    """One credential, and every version of it."""
    found = call("GET", f"/v1/credentials/{_credential_id}")
    if as_json:
        show(found, as_json)
        return
    show({name: value for name, value in found.items() if name != "versions"}, as_json)
    say("")
    listing([{**held, "version": held["number"]} for held in found["versions"]], _VERSIONS, as_json)


@app.command()
@about_a_credential
def rotate(
    _credential_id: str,
    contact: Annotated[
        str | None, typer.Option("--from", help="The Organization Admin's e-mail address; left out, who gave the key.")
    ] = None,
    reason: Reason = "",
    purpose: Annotated[str, typer.Option(help="Shown to the customer.")] = "",
    hours: Annotated[int, typer.Option(help="How long the link lasts.")] = 72,
    grace_minutes: Annotated[int, typer.Option(help="For so long the old key is kept to fall back to.")] = 60,
    deadline_hours: Annotated[int, typer.Option(help="The old key retires by then, whoever still holds it.")] = 168,
    as_json: AsJson = False,
) -> None:
    """Ask the customer for a new key; the present one stays in use until the new one has proved itself."""
    wanted = {
        "contact": contact,
        "reason": reason,
        "purpose": purpose,
        "hours": hours,
        "grace_minutes": grace_minutes,
        "deadline_hours": deadline_hours,
    }
    made = call("POST", f"/v1/credentials/{_credential_id}/rotate", json=wanted)
    if as_json:
        show(made, as_json)
        return
    say(f"Rotation {made['rotation']['id']} waits for the new key; `broker rotation list` shows where it is.")
    if made["link"]:
        say("Send this link to the customer; it works once:\n")
        say(made["link"])


@app.command()
@about_a_request
def link(
    _intake_id: str,
    hours: Annotated[int, typer.Option(help="How long the link lasts.")] = 72,
    as_json: AsJson = False,
) -> None:
    """Make a new link for a request that still waits; the previous one stops working."""
    made = call("POST", f"/v1/intakes/{_intake_id}/link", json={"hours": hours})
    if as_json:
        show(made, as_json)
        return
    say(made["link"])
    _say_also_open(made)


def _say_also_open(made: dict[str, Any]) -> None:
    for other in made["also_open"]:
        say(
            f"\nAnother request for this key is open, to {other['contact']} until {other['expires_at']}; the key that "
            f"comes first is taken. Take that request back: broker key cancel {other['id']}",
            err=True,
        )


@app.command()
@about_a_credential
def status_link(_credential_id: str, as_json: AsJson = False) -> None:
    """Make a new status code for the customer; every code and status link before stops working."""
    made = call("POST", f"/v1/credentials/{_credential_id}/status-link")
    if as_json:
        show(made, as_json)
        return
    say(f"Send the customer this page, and the code that they paste there:\n\n{made['status_page']}")
    say(made["status_code"])


@app.command()
@about_a_credential
def holders(
    _credential_id: str,
    version: Annotated[int | None, typer.Option("--version", help="Left out, the newest.")] = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Who still holds a version of the key, and who used it."""
    number = version or newest_version(_credential_id)
    found = call("GET", f"/v1/credentials/{_credential_id}/versions/{number}/holders")
    if as_json:
        show(found, as_json)
        return
    listing(found["items"], _HOLDERS, as_json, wide=wide)


@app.command()
@about_a_credential
def certificate(
    _credential_id: str,
    version: Version,
    serial: Annotated[int | None, typer.Option(help="An earlier one of this version; left out, the newest.")] = None,
    out: Out = None,
    as_json: AsJson = False,  # noqa: ARG001 - read before the command runs
) -> None:
    """The signed proof that a key is dead upstream, as one JSON document, with and without --json.

    It has the receipts of the events that it names: who has the file needs nobody to verify it.
    """
    path = f"/v1/credentials/{_credential_id}/versions/{version}/certificate"
    save(path if serial is None else f"{path}?serial={serial}", out)


@app.command()
@about_a_credential
def policy(
    _credential_id: str,
    rotation_days: Annotated[int | None, typer.Option(help="Left out, the organization's or provider's.")] = None,
    max_age_days: Annotated[int | None, typer.Option(help="From this age on a key is over its time.")] = None,
    on_max_age: Annotated[str, typer.Option(help="warn or refuse.")] = "warn",
    as_json: AsJson = False,
) -> None:
    """Decide how old the credential's keys may become."""
    wanted = {"rotation_days": rotation_days, "max_age_days": max_age_days, "on_max_age": on_max_age}
    show(_flat(call("POST", f"/v1/credentials/{_credential_id}/policy", json=wanted)), as_json)


@app.command()
@about_a_credential
def exposed(
    _credential_id: str,
    found_by: Annotated[str, typer.Option(help="Who found it.")],
    where: Annotated[str, typer.Option(help="Where it was found; never the key itself.")],
    version: Annotated[int | None, typer.Option(help="Left out, the one in use.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 time from which it may have been out.")] = None,
    note: Annotated[str, typer.Option(help="For the record.")] = "",
    as_json: AsJson = False,
) -> None:
    """An exposed key: cut it off now, ask the customer for a new one, watch the old one die.

    This asks nothing, as every second counts.  It can't be undone.
    """
    wanted = {"version": version, "found_by": found_by, "where": where, "since": since, "note": note}
    made = call("POST", f"/v1/credentials/{_credential_id}/exposure", json=wanted)
    if as_json:
        show(made, as_json)
        return
    exposure = made["exposure"]
    say(
        f"Version {exposure['version']} is cut off: no lease or use of it from now on. "
        f"`broker incident timeline {exposure['id']}` exports who could have used it, and who did."
    )
    if made["link"]:
        say("Send this link for a new key to the customer, and ask them to revoke the exposed one now:\n")
        say(made["link"])


@app.command()
@about_a_request
def cancel(_intake_id: str, as_json: AsJson = False) -> None:
    """Take an open request back."""
    show(call("POST", f"/v1/intakes/{_intake_id}/cancel"), as_json)


@app.command()
@about_a_credential
def revoke(
    _credential_id: str,
    version: Annotated[
        int | None, typer.Option("--version", help="Only this version; left out, the whole credential.")
    ] = None,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cut a credential (or one version of it) off: no lease or use from now on.

    To replace a key that works, use `broker key rotate`: nothing stops then.
    """
    path = f"/v1/credentials/{_credential_id}"
    what = f"Revoking version {version} of {_credential_id}" if version else f"Revoking the key {_credential_id}"
    insist_on_ending(what, path, yes=yes)
    path += f"/versions/{version}" if version else ""
    show(_flat(call("POST", f"{path}/revoke", json={"reason": reason})), as_json)


@app.command()
@about_a_credential
def activate(_credential_id: str, version: Version, as_json: AsJson = False) -> None:
    """Decide that a held version, whose organization was unproven, may be used."""
    show(call("POST", f"/v1/credentials/{_credential_id}/versions/{version}/activate"), as_json)


@app.command()
@about_a_credential
def destroy(_credential_id: str, version: Version, as_json: AsJson = False) -> None:
    """Erase the key material of a version that is not in use."""
    show(call("POST", f"/v1/credentials/{_credential_id}/versions/{version}/destroy"), as_json)


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    if "versions" not in item:
        return item
    return {**item, "versions": [f"{version['number']}: {version['state']}" for version in item["versions"]]}
