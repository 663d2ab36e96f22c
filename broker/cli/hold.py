"""``broker audit hold``: legal holds, while which nothing is erased."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show

app = typer.Typer(no_args_is_help=True, help="Legal holds: nothing is erased.")

Org = Annotated[str | None, typer.Option("--org", help="Organization: slug or id; left out, everything.")]


@app.command("list")
@prints_list(Columns("organization placed_at placed_by"))
def list_() -> Iterable[Item]:
    """The holds that stand."""
    return pages("/v1/audit/holds")


@app.command()
def place(org: Org = None, as_json: AsJson = False) -> None:
    """Let nothing of an organization be erased, or nothing at all."""
    show(call("POST", "/v1/audit/holds", json={"organization": org}), as_json)


@app.command()
def lift(org: Org = None, as_json: AsJson = False) -> None:
    """Lift the hold on an organization, or the one on everything."""
    show(call("POST", "/v1/audit/holds/lift", json={"organization": org}), as_json)
