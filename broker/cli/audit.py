"""``broker audit``: the record, for security teams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli import proofs, verifying
from broker.cli.api import call, pages
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, say, show

COLUMNS = Columns("time event who", "what # decision")

app = typer.Typer(no_args_is_help=True, help="What happened.")
app.add_typer(verifying.app, name="verify")
proofs.register(app)


@app.callback()
def _group() -> None:
    """What happened."""


def row(event: Item) -> Item:
    """An event as a line for people."""
    core, personal = event["core"], event["personal"]
    what = [core.get("provider", ""), core.get("mode", ""), core.get("reason", "")]
    if "target" in core:
        what.append(f"{core['target']['method']} {core['target']['host']}{personal.get('path', '')}")
    if "outcome" in core:
        what.append(f"→ {core['outcome']['status']} in {core['outcome']['ms']} ms")
    return {
        "#": event["index"],
        "time": event["time"],
        "event": event["kind"],
        "decision": event["decision"],
        "who": personal.get("actor_name") or core["actor"]["id"],
        "what": " ".join(part for part in what if part),
    }


@app.command()
@prints_list(COLUMNS, row)
def search(
    org: Annotated[str | None, typer.Option("--org", help="Organization: slug or id.")] = None,
    kind: Annotated[str | None, typer.Option(help="An event kind, or a group such as lease.*")] = None,
    actor: Annotated[str | None, typer.Option(help="The actor's id.")] = None,
    credential: Annotated[str | None, typer.Option(help="Credential id.")] = None,
    lease: Annotated[str | None, typer.Option(help="Lease id.")] = None,
    decision: Annotated[str | None, typer.Option(help="allowed or denied.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 time, such as 2027-01-31T09:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
) -> Iterable[Item]:
    """Search the record, newest first; says if there may be more in archives, which it doesn't read."""
    return pages(
        "/v1/audit/events",
        _tell_archived,
        organization=org,
        kind=kind,
        actor=actor,
        credential=credential,
        lease=lease,
        decision=decision,
        since=since,
        until=until,
        order="newest",
    )


@app.command("rotate-log-key")
def rotate_log_key(as_json: AsJson = False) -> None:
    """Sign the log with a new key; the old one signs too for 30 days.

    Give the new key to who verifies the log, and to its witnesses, within that time.
    """
    show(call("POST", "/v1/audit/log/rotate-key"), as_json, alone=("new",))


def _tell_archived(page: Item) -> None:
    if archived := page.get("archived"):
        months = archived["months"]
        named = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
        say(f"There may be more in archives: {named}. Here are events from number {archived['first']} on.", err=True)
