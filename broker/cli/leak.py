"""``broker leak``: our keys that were found where they should not be."""

from __future__ import annotations

import typer

from broker.cli.api import pages
from broker.cli.output import AsJson, listing

app = typer.Typer(no_args_is_help=True, help="Keys that were found outside.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every place where one was found, oldest first."""
    columns = ["found_at", "organization", "provider", "credential", "version", "place", "found_by"]
    listing(pages("/v1/leaks/findings"), columns, as_json)
