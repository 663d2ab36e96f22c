"""``broker leak``: our keys that were found where they should not be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import pages
from broker.cli.lists import prints_list
from broker.cli.output import Columns, Item

app = typer.Typer(no_args_is_help=True, help="Keys that were found outside.")


@app.callback()
def _group() -> None:
    """Keys that were found outside."""


@app.command("list")
@prints_list(
    Columns("org provider version found_at", "place found_by credential"),
    lambda row: {**row, "org": row["organization_slug"]},
)
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
) -> Iterable[Item]:
    """Every place where one was found, newest first."""
    return pages("/v1/leaks/findings", organization=org, order="newest")
