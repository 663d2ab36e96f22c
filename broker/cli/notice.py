"""``broker notice``: what operators were told."""

from __future__ import annotations

import typer

from broker.cli.output import AsJson, listing
from broker.cli.session import pages

app = typer.Typer(no_args_is_help=True, help="What operators were told.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Notices, newest last."""
    columns = ["created_at", "kind", "organization", "provider", "credential", "version", "text"]
    listing(pages("/v1/notices"), columns, as_json)
