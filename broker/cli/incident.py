"""``broker incident``: keys that were exposed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show
from broker.cli.saving import Out, save

app = typer.Typer(no_args_is_help=True, help="Keys that were exposed.")


Incident = Annotated[str, typer.Argument(help="Its id, exp_…; `broker incident list` shows it.")]


@app.command("list")
@prints_list(
    Columns("org provider state id", "reported_at version found_by since where credential rotation"),
    lambda row: {**row, "org": row["organization_slug"]},
)
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    state: Annotated[str | None, typer.Option(help="open or closed.")] = None,
) -> Iterable[Item]:
    """Exposures, newest first."""
    return pages("/v1/exposures", organization=org, state=state, order="newest")


@app.command("show")
def show_(exposure_id: Incident, as_json: AsJson = False) -> None:
    """One exposure."""
    show(call("GET", f"/v1/exposures/{exposure_id}"), as_json)


@app.command()
def timeline(
    exposure_id: Incident,
    out: Out = None,
    _as_json: AsJson = False,
) -> None:
    """Export who could have used the key and every use since, one JSON value a line, with and without --json."""
    save(f"/v1/exposures/{exposure_id}/timeline", out)
