"""``broker webhook``: where notices are posted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.failing import fail
from broker.cli.lists import prints_list
from broker.cli.operator import read_secret
from broker.cli.output import AsJson, Columns, Item, say, show

app = typer.Typer(no_args_is_help=True, help="Where notices are posted.")

Webhook = Annotated[str, typer.Argument(help="Its id, whk_…; `broker webhook list` shows it.")]


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
@prints_list(Columns("id state format", "organization url kinds created_at"))
def list_(
    state: Annotated[str | None, typer.Option(help="active, disabled or revoked.")] = None,
) -> Iterable[Item]:
    """Webhooks."""
    return pages("/v1/webhooks", state=state)


@app.command()
def revoke(webhook_id: Webhook, as_json: AsJson = False) -> None:
    """Post nothing there any more."""
    show(call("POST", f"/v1/webhooks/{webhook_id}/revoke"), as_json)


@app.command()
def rotate_secret(webhook_id: Webhook, as_json: AsJson = False) -> None:
    """Sign with a new secret; the previous one signs too for a day."""
    made = call("POST", f"/v1/webhooks/{webhook_id}/rotate-secret")
    show(made if as_json else {"id": made["webhook"]["id"], "secret": made["secret"]}, as_json, alone=("secret",))


@app.command("test")
def try_out(webhook_id: Webhook, as_json: AsJson = False) -> None:
    """Post a notice that nothing happened; what the receiver answered.  Ends with 1 if it did not take the notice."""
    tested = call("POST", f"/v1/webhooks/{webhook_id}/test")
    if as_json or not tested["reason"]:
        show(tested, as_json)
    if tested["reason"]:
        fail(f"The webhook took nothing: {tested['reason']}.")
