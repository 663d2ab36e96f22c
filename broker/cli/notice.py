"""``broker notice``: what operators were told."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.output import AsJson, listing, show

app = typer.Typer(no_args_is_help=True, help="What operators were told.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Notices, newest last."""
    columns = ["created_at", "severity", "kind", "organization", "provider", "credential", "version", "text"]
    listing(pages("/v1/notices"), columns, as_json)


@app.command()
def deliveries(
    state: Annotated[str | None, typer.Option(help="pending, sent or dead.")] = None, as_json: AsJson = False
) -> None:
    """Who was told, or could not be."""
    columns = ["id", "notice", "channel", "destination", "state", "tries", "last_status", "last_error", "created_at"]
    listing(pages("/v1/notices/deliveries", state=state), columns, as_json)


@app.command()
def resend(delivery_id: str, as_json: AsJson = False) -> None:
    """Try a dead delivery again."""
    show(call("POST", f"/v1/notices/deliveries/{delivery_id}/resend"), as_json)
