"""``broker key``: ask customers for keys, look after them, cut them off."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from broker.cli.operator import read_secret
from broker.cli.output import AsJson, listing, show
from broker.cli.session import call, fail, pages

app = typer.Typer(no_args_is_help=True, help="Customers' keys.")

Org = Annotated[str, typer.Option("--org", help="Organization: slug or id.")]
Provider = Annotated[str, typer.Option(help="Provider id; `broker provider list` shows them.")]
Label = Annotated[str, typer.Option(help="Tells several keys of one organization apart.")]
Reason = Annotated[str, typer.Option(help="For the record.")]


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
    typer.echo(f"Send this link to {contact}; it works once, until {made['intake']['expires_at']}:\n")
    typer.echo(made["link"])


@app.command()
def add(
    org: Org,
    provider: Provider,
    label: Label = "default",
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
    }
    made = call("POST", "/v1/credentials", json=wanted)
    show({"credential": made["credential"], "verdict": made["verdict"], **made["version"]}, as_json)


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    as_json: AsJson = False,
) -> None:
    """Keys that are held, and requests that wait for a customer."""
    slugs = {item["id"]: item["slug"] for item in pages("/v1/organizations")}
    rows = [
        {
            **credential,
            **version,
            "organization": slugs.get(credential["organization"], ""),
            "credential": credential["id"],
        }
        for credential in pages("/v1/credentials", organization=org)
        for version in credential["versions"]
    ]
    rows += [_waiting(intake, slugs) for intake in pages("/v1/intakes", organization=org) if intake["state"] == "open"]
    columns = [
        "organization",
        "provider",
        "label",
        "number",
        "state",
        "health",
        "last4",
        "fingerprint",
        "staged_at",
        "credential",
    ]
    listing(rows, columns, as_json)


def _waiting(intake: dict[str, Any], slugs: dict[str, str]) -> dict[str, Any]:
    return {
        "organization": slugs.get(intake["organization"], ""),
        "provider": intake["provider"],
        "label": intake["label"],
        "state": "requested",
        "staged_at": intake["created_at"],
        "credential": intake["id"],
    }


@app.command()
def cancel(intake_id: str, as_json: AsJson = False) -> None:
    """Take an open request back."""
    show(call("POST", f"/v1/intakes/{intake_id}/cancel"), as_json)


@app.command()
def revoke(
    credential_id: str,
    version: Annotated[int | None, typer.Option(help="Only this version; left out, the whole credential.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Cut a credential (or one version of it) off: no lease or use from now on."""
    path = f"/v1/credentials/{credential_id}" + (f"/versions/{version}" if version else "")
    show(_flat(call("POST", f"{path}/revoke", json={"reason": reason})), as_json)


@app.command()
def activate(credential_id: str, version: int, as_json: AsJson = False) -> None:
    """Decide that a held version, whose organization was unproven, may be used."""
    show(call("POST", f"/v1/credentials/{credential_id}/versions/{version}/activate"), as_json)


@app.command()
def destroy(credential_id: str, version: int, as_json: AsJson = False) -> None:
    """Erase the key material of a version that is not in use."""
    show(call("POST", f"/v1/credentials/{credential_id}/versions/{version}/destroy"), as_json)


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    if "versions" not in item:
        return item
    return {**item, "versions": [f"{version['number']}: {version['state']}" for version in item["versions"]]}
