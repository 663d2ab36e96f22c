"""``broker audit``: the record, for security teams."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from broker.cli.api import call
from broker.cli.output import AsJson, listing

COLUMNS = ("#", "time", "event", "decision", "who", "what")

app = typer.Typer(no_args_is_help=True, help="What happened.")


@app.callback()
def _group() -> None:
    """What happened."""


@app.command()
def search(
    org: Annotated[str | None, typer.Option("--org", help="Organization: slug or id.")] = None,
    kind: Annotated[str | None, typer.Option(help="An event kind, or a group such as lease.*")] = None,
    actor: Annotated[str | None, typer.Option(help="The actor's id.")] = None,
    credential: Annotated[str | None, typer.Option(help="Credential id.")] = None,
    lease: Annotated[str | None, typer.Option(help="Lease id.")] = None,
    decision: Annotated[str | None, typer.Option(help="allowed or denied.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many, the newest.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """Search the record, newest first."""
    wanted = {
        "organization": org,
        "kind": kind,
        "actor": actor,
        "credential": credential,
        "lease": lease,
        "decision": decision,
        "since": since,
        "until": until,
    }
    events = _newest({name: value for name, value in wanted.items() if value is not None}, limit)
    if as_json:
        typer.echo(json.dumps(events))
        return
    listing([row(event) for event in events], COLUMNS, False)


def _newest(wanted: dict[str, str], limit: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None and len(events) < limit:
        size = min(500, limit - len(events))
        found = call("GET", "/v1/audit/events", params={**wanted, "limit": size, "cursor": cursor, "order": "newest"})
        events += found["items"]
        cursor = found["next"]
    return events


def row(event: dict[str, Any]) -> dict[str, Any]:
    """An event as a line for people."""
    core, personal = event["core"], event["personal"]
    what = [core.get("provider", ""), core.get("mode", ""), core.get("reason", "")]
    if "target" in core:
        what.append(f"{core['target']['method']} {core['target']['host']}{personal.get('path', '')}")
    if "outcome" in core:
        what.append(f"→ {core['outcome']['status']} in {core['outcome']['ms']} ms")
    return {
        "#": event["index"],
        "time": event["time"].replace("T", " ").rstrip("Z"),
        "event": event["kind"],
        "decision": event["decision"],
        "who": personal.get("actor_name") or core["actor"]["id"],
        "what": " ".join(part for part in what if part),
    }
