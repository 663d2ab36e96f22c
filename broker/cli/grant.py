"""``broker grant``: who may use what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from broker.cli.api import call, fail, pages
from broker.cli.output import AsJson, listing, show

app = typer.Typer(no_args_is_help=True, help="Who may use what.")

_COLUMNS = ["id", "workload", "organization", "provider", "label", "modes", "limits", "max_ttl", "expires_at", "state"]
_RATES = {"s": 1, "min": 60, "h": 3600, "day": 86_400}


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
    preset: Annotated[
        list[str] | None, typer.Option(help="A set of rules of the provider file, such as read-only; may be repeated.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="'GET,POST /facilities/*': methods and a path; * in a segment, ** across; may be repeated."),
    ] = None,
    rate: Annotated[str | None, typer.Option(help="At most so many uses: 60/min, 5/s, 1000/h, 5000/day.")] = None,
    max_uses: Annotated[int | None, typer.Option(help="At most so many uses in all.")] = None,
    implicit: Annotated[bool, typer.Option(help="Calls with the access token alone, without a lease.")] = False,
    retries: Annotated[bool, typer.Option(help="Whether the broker tries idempotent calls again.")] = True,
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
        "presets": preset or [],
        "rules": [_rule(text) for text in allow or []],
        "rate": _rate(rate) if rate else None,
        "max_uses": max_uses,
        "implicit": implicit,
        "retries": retries,
        "expires_at": expires,
    }
    made = call("POST", "/v1/grants", json=wanted)["items"]
    _listing(made, as_json)
    for grant in made:
        if grant["state"] == "waiting":
            typer.echo(
                f"{grant['id']} gives nothing yet: within 72 hours, somebody else with the role security or admin has "
                f"to run `broker grant approve {grant['id']}`.",
                err=True,
            )


def _rule(text: str) -> dict[str, list[str]]:
    methods, _, path = text.partition(" ")
    if not path.startswith("/"):
        fail(f"--allow {text!r}: write methods, a space and a path, for example 'GET,POST /facilities/*'.")
    return {"methods": methods.upper().split(","), "paths": [path]}


def _rate(text: str) -> dict[str, int]:
    uses, _, unit = text.partition("/")
    if not uses.isdecimal() or unit not in _RATES:
        fail(f"--rate {text!r}: write for example 60/min; units are {', '.join(_RATES)}.")
    return {"uses": int(uses), "seconds": _RATES[unit]}


def _listing(items: list[dict[str, Any]], as_json: bool) -> None:
    listing(items if as_json else [{**item, "limits": _limits(item)} for item in items], _COLUMNS, as_json)


def _limits(grant: dict[str, Any]) -> str:
    """What the grant limits, in a cell."""
    words = [f"{','.join(rule['methods'])} {','.join(rule['paths'])}" for rule in grant["rules"]]
    if grant["presets"]:
        words = list(grant["presets"]) + words[len(grant["presets"]) :]
    if grant["rate"]:
        words.append(f"{grant['rate']['uses']} in {grant['rate']['seconds']} s")
    if grant["max_uses"]:
        words.append(f"{grant['max_uses']} uses")
    if not grant["retries"]:
        words.append("no retries")
    return "; ".join(words)


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    workload: Annotated[str | None, typer.Option(help="Only this job.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that wait for a second person.")] = False,
    as_json: AsJson = False,
) -> None:
    """Grants."""
    _listing(pages("/v1/grants", organization=org, workload=workload, waiting=waiting or None), as_json)


@app.command()
def approve(grant_id: str, as_json: AsJson = False) -> None:
    """Let a job see keys, as the second person that this needs (role security or admin)."""
    show(call("POST", f"/v1/grants/{grant_id}/approve"), as_json)


@app.command()
def revoke(
    grant_id: str, reason: Annotated[str, typer.Option(help="For the record.")] = "", as_json: AsJson = False
) -> None:
    """Take a grant back: no lease or use under it from now on."""
    show(call("POST", f"/v1/grants/{grant_id}/revoke", json={"reason": reason}), as_json)
