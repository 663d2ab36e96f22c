"""``broker grant``: who may use what."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.output import AsJson, listing, show
from broker.cli.session import call, pages

app = typer.Typer(no_args_is_help=True, help="Who may use what.")

_COLUMNS = ["id", "workload", "organization", "provider", "label", "modes", "max_ttl", "expires_at", "state"]


@app.command()
def add(
    workload: Annotated[str, typer.Option(help="The job: name or id.")],
    org: Annotated[list[str], typer.Option("--org", help="Organization; may be repeated.")],
    provider: Annotated[str, typer.Option(help="Provider id.")],
    mode: Annotated[list[str] | None, typer.Option(help="use (default) or reveal; may be repeated.")] = None,
    label: Annotated[str | None, typer.Option(help="Only this label.")] = None,
    max_ttl: Annotated[int, typer.Option(help="Seconds a lease may last in all.")] = 3600,
    expires: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
    purpose_required: Annotated[bool, typer.Option(help="Every lease must say what it is for.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a job a right to these organizations' keys."""
    wanted = {
        "workload": workload,
        "organizations": org,
        "provider": provider,
        "label": label,
        "modes": mode or ["use"],
        "max_ttl": max_ttl,
        "purpose_required": purpose_required,
        "expires_at": expires,
    }
    listing(call("POST", "/v1/grants", json=wanted)["items"], _COLUMNS, as_json)


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    workload: Annotated[str | None, typer.Option(help="Only this job.")] = None,
    as_json: AsJson = False,
) -> None:
    """Grants."""
    listing(pages("/v1/grants", organization=org, workload=workload), _COLUMNS, as_json)


@app.command()
def revoke(
    grant_id: str, reason: Annotated[str, typer.Option(help="For the record.")] = "", as_json: AsJson = False
) -> None:
    """Take a grant back: no lease or use under it from now on."""
    show(call("POST", f"/v1/grants/{grant_id}/revoke", json={"reason": reason}), as_json)
