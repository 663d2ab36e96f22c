"""``broker audit``: the record, for security teams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli import hold, proofs, verifying
from broker.cli.api import call, pages
from broker.cli.following import follow as go_on
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, say, tell
from broker.cli.trail import row, show_all

COLUMNS = Columns("time event who", "what # decision")

app = typer.Typer(no_args_is_help=True, help="What happened.")
app.add_typer(verifying.app, name="verify")
proofs.register(app)


app.add_typer(hold.app, name="hold")


@app.callback()
def _group() -> None:
    """What happened."""


@app.command()
@prints_list(COLUMNS, row, on_terminal=show_all)
def search(
    org: Annotated[str | None, typer.Option("--org", help="Organization: slug or id.")] = None,
    kind: Annotated[str | None, typer.Option(help="An event kind, or a group such as lease.*")] = None,
    actor: Annotated[str | None, typer.Option(help="The actor's id.")] = None,
    credential: Annotated[str | None, typer.Option(help="Credential id.")] = None,
    lease: Annotated[str | None, typer.Option(help="Lease id.")] = None,
    workload: Annotated[str | None, typer.Option(help="About this job: name or id.")] = None,
    operator: Annotated[str | None, typer.Option(help="Done by this operator: name or id.")] = None,
    decision: Annotated[str | None, typer.Option(help="allowed or denied.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Of uses: succeeded, failed, 2xx, 4xx, 5xx, none.")] = None,
    request: Annotated[str | None, typer.Option(help="The id of a request: an answer's X-Request-Id.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 time, such as 2027-01-31T09:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new events as they come; with --json a line each.")
    ] = False,
) -> Iterable[Item]:
    """Search the record, newest first; says if there may be more in archives, which it doesn't read."""
    wanted = {
        "organization": org,
        "kind": kind,
        "actor": actor,
        "credential": credential,
        "lease": lease,
        "workload": workload,
        "operator": operator,
        "decision": decision,
        "outcome": outcome,
        "request": request,
        "since": since,
        "until": until,
    }
    if follow:
        go_on(wanted)
    return pages("/v1/audit/events", _tell_missing, **wanted, order="newest")


@app.command("rotate-log-key")
def rotate_log_key(_as_json: AsJson = False) -> None:
    """Sign the log with a new key; the old one signs too for 30 days.

    Give the new key to who verifies the log, and to its witnesses, within that time.
    """
    made = call("POST", "/v1/audit/log/rotate-key")
    tell(f"The new key signs from the next checkpoint on, and the old one too for 30 days:\n\n{made['new']}", **made)


def _tell_missing(page: Item) -> None:
    if pruned := page.get("pruned"):
        numbers = f"{pruned['first']} to {pruned['end'] - 1}"
        say(f"Some events were pruned, as they are kept so many days: of the numbers {numbers}.", err=True)
    if archived := page.get("archived"):
        months = archived["months"]
        named = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
        say(f"There may be more in archives: {named}. Here are events from number {archived['first']} on.", err=True)
