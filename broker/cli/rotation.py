"""``broker rotation``: keys that are being replaced."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.output import AsJson, listing, show

app = typer.Typer(no_args_is_help=True, help="Keys that are being replaced.")

Reason = Annotated[str, typer.Option(help="For the record.")]


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rotations that are under way."""
    rows = pages("/v1/rotations", organization=org, ended=None if every else False)
    columns = [
        "id",
        "organization",
        "provider",
        "kind",
        "state",
        "from_version",
        "to_version",
        "opened_at",
        "retire_by",
    ]
    listing(rows, columns, as_json)


@app.command("show")
def show_(rotation_id: str, as_json: AsJson = False) -> None:
    """One rotation, with the facts of the decision that it may wait for."""
    show(call("GET", f"/v1/rotations/{rotation_id}"), as_json)


@app.command()
def promote(rotation_id: str, as_json: AsJson = False) -> None:
    """Take the next step: use a held key, or retire the old one before its time."""
    show(call("POST", f"/v1/rotations/{rotation_id}/promote"), as_json)


@app.command()
def rollback(rotation_id: str, reason: Reason = "", as_json: AsJson = False) -> None:
    """Go back to the old key; nothing uses the new one from now on."""
    show(call("POST", f"/v1/rotations/{rotation_id}/rollback", json={"reason": reason}), as_json)


@app.command()
def cancel(rotation_id: str, reason: Reason = "", as_json: AsJson = False) -> None:
    """Give a rotation up before its key was in use; the customer's link stops working."""
    show(call("POST", f"/v1/rotations/{rotation_id}/cancel", json={"reason": reason}), as_json)
