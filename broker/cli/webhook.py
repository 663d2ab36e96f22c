"""``broker webhook``: where notices are posted."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.operator import read_secret
from broker.cli.output import AsJson, listing, say, show

app = typer.Typer(no_args_is_help=True, help="Where notices are posted.")


@app.command()
def add(
    format_: Annotated[
        str, typer.Option("--format", help="standard (signed, Standard Webhooks) or slack.")
    ] = "standard",
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of notice; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Post notices to an address: read from standard input, as some addresses are secrets."""
    wanted = {"url": read_secret("URL"), "format": format_, "organization": org, "kinds": kind or []}
    made = call("POST", "/v1/webhooks", json=wanted)
    if as_json:
        show(made, as_json)
        return
    say(f"Webhook {made['webhook']['id']} posts to {made['webhook']['url']}. Its secret, shown this once:\n")
    say(made["secret"])


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Webhooks."""
    listing(pages("/v1/webhooks"), ["id", "organization", "url", "format", "kinds", "state", "created_at"], as_json)


@app.command()
def revoke(webhook_id: str, as_json: AsJson = False) -> None:
    """Post nothing there any more."""
    show(call("POST", f"/v1/webhooks/{webhook_id}/revoke"), as_json)


@app.command()
def rotate_secret(webhook_id: str, as_json: AsJson = False) -> None:
    """Sign with a new secret; the previous one signs too for a day."""
    made = call("POST", f"/v1/webhooks/{webhook_id}/rotate-secret")
    show(made if as_json else {"id": made["webhook"]["id"], "secret": made["secret"]}, as_json)


@app.command("test")
def try_out(webhook_id: str, as_json: AsJson = False) -> None:
    """Post a notice that nothing happened; what the receiver answered."""
    show(call("POST", f"/v1/webhooks/{webhook_id}/test"), as_json)
