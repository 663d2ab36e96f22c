"""``broker rotation``: keys that are being replaced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show

app = typer.Typer(no_args_is_help=True, help="Keys that are being replaced.")

Reason = Annotated[str, typer.Option(help="For the record.")]
Rotation = Annotated[str, typer.Argument(help="Its id, rot_…; `broker rotation list` shows it.")]


@app.command("list")
@prints_list(
    Columns("org provider state id", "retire_by kind from_version to_version opened_at credential"),
    lambda row: {**row, "org": row["organization_slug"]},
)
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="requested, verifying, held, grace, failing, completed, rolled_back, cancelled or another end."
        ),
    ] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that are over.")] = False,
) -> Iterable[Item]:
    """Rotations that are under way, newest first."""
    over = None if ended or state else False
    return pages("/v1/rotations", organization=org, provider=provider, state=state, ended=over, order="newest")


@app.command("show")
def show_(rotation_id: Rotation, as_json: AsJson = False) -> None:
    """One rotation, with the facts of the decision that it may wait for."""
    show(call("GET", f"/v1/rotations/{rotation_id}"), as_json)


@app.command()
def promote(rotation_id: Rotation, as_json: AsJson = False) -> None:
    """Take the next step: use a held key, or retire the old one before its time."""
    show(call("POST", f"/v1/rotations/{rotation_id}/promote"), as_json)


@app.command()
def rollback(rotation_id: Rotation, reason: Reason = "", as_json: AsJson = False) -> None:
    """Go back to the old key; nothing uses the new one from now on."""
    show(call("POST", f"/v1/rotations/{rotation_id}/rollback", json={"reason": reason}), as_json)


@app.command()
def cancel(rotation_id: Rotation, reason: Reason = "", as_json: AsJson = False) -> None:
    """Give a rotation up before its key was in use; the customer's link stops working."""
    show(call("POST", f"/v1/rotations/{rotation_id}/cancel", json={"reason": reason}), as_json)
