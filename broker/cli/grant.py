"""``broker grant``: who may use what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from broker.cli.api import call, pages
from broker.cli.asking import Yes, insist
from broker.cli.discreet import unsaid
from broker.cli.failing import Status, fail
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, listing, say, show

app = typer.Typer(no_args_is_help=True, help="Who may use what.")

Grant = Annotated[str, typer.Argument(help="Its id, grt_…; `broker grant list` shows it.")]

_COLUMNS = Columns("workload org provider state id", "modes limits label expires_at max_ttl")
_ANSWERS = Columns("grant state answer reason", "rule")
# So many are named in a question.
_NAMED = 10
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
    bound: Annotated[
        bool, typer.Option("--bound", help="Leases are of use only to whoever holds the job's key (DPoP).")
    ] = False,
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
        **({"bound": True} if bound else {}),
    }
    made = call("POST", "/v1/grants", json=wanted)["items"]
    listing(made if as_json else map(_row, made), _COLUMNS, as_json)
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
        fail(f"--allow '{unsaid(text)}': write methods, a space and a path, for example 'GET,POST /facilities/*'.")
    return {"methods": methods.upper().split(","), "paths": [path]}


def _rate(text: str) -> dict[str, int]:
    uses, _, unit = text.partition("/")
    if not uses.isdecimal() or unit not in _RATES:
        fail(f"--rate '{unsaid(text)}': write for example 60/min; units are {', '.join(_RATES)}.")
    return {"uses": int(uses), "seconds": _RATES[unit]}


def _row(grant: Item) -> Item:
    """A grant as people read it."""
    return {
        **grant,
        "org": grant["organization_slug"],
        "workload": grant["workload_name"],
        "limits": _limits(grant),
    }


def _limits(grant: Item) -> str:
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
    if grant.get("bound"):
        words.append("bound")
    return "; ".join(words)


@app.command("list")
@prints_list(_COLUMNS, _row)
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    workload: Annotated[str | None, typer.Option(help="Only this job.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    label: Annotated[str | None, typer.Option(help="Only this label.")] = None,
    state: Annotated[str | None, typer.Option(help="active, waiting, expired or revoked.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that wait for a second person.")] = False,
) -> Iterable[Item]:
    """Grants."""
    return pages(
        "/v1/grants",
        organization=org,
        workload=workload,
        provider=provider,
        label=label,
        state=state,
        waiting=waiting or None,
    )


@app.command("show")
def show_(grant: Grant, as_json: AsJson = False) -> None:
    """One grant."""
    found = call("GET", f"/v1/grants/{grant}")
    show(found if as_json else {**found, "rules": _limits({**found, "presets": []})}, as_json)


@app.command()
def explain(
    workload: Annotated[str, typer.Option(help="The job: name or id.")],
    org: Annotated[str, typer.Option("--org", help="Organization: slug or id.")],
    provider: Annotated[str, typer.Option(help="Provider id.")],
    method: Annotated[str, typer.Option(help="GET, POST, …")] = "GET",
    path: Annotated[str, typer.Option(help="Below the provider's base URL, such as /facilities/7.")] = "",
    label: Annotated[str, typer.Option(help="The credential's label.")] = "default",
    purpose: Annotated[str, typer.Option(help="What the job would say that it is for.")] = "",
    implicit: Annotated[bool, typer.Option(help="As a call with the access token alone, without a lease.")] = False,
    bound: Annotated[bool, typer.Option("--bound", help="As a job whose access token is bound to a key.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try the policy on a call: would it pass, which rule decides, what fixes a refusal."""
    asked: dict[str, Any] = {"workload": workload, "organization": org, "provider": provider, "label": label}
    asked |= {"method": method.upper(), "path": path, "purpose": purpose, "implicit": implicit}
    asked |= {"bound": True} if bound else {}
    found = call("POST", "/v1/grants/explain", json=asked)
    if as_json:
        show(found, as_json)
        return
    show(_answer(found), as_json)
    if others := [one for one in found["grants"] if one["grant"] != found["grant"]]:
        say("\nWith the job's other grants, if it names one:\n")
        listing(map(_answer_of_grant, others), _ANSWERS, as_json)


def _answer(found: Item) -> Item:
    """What decides, without what says nothing."""
    if found["allowed"]:
        return {"answer": "allowed", "grant": found["grant"], "rule": found["rule"] or "none: the grant allows all"}
    told = {"answer": "refused", "reason": found["cause"]}
    if found["cause"] != found["reason"]:
        told["job is told"] = found["reason"]
    return {**told, **({"grant": found["grant"]} if found["grant"] else {}), "fix": found["fix"]}


def _answer_of_grant(one: Item) -> Item:
    return {**one, "answer": "allowed" if one["allowed"] else "refused"}


@app.command()
def tighten(
    grant: Grant,
    days: Annotated[int, typer.Option(help="What it was used for in so many days stays allowed.")] = 90,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Narrow a grant to what it was used for: shows what it would allow no more, and asks."""
    found = call("GET", f"/v1/grants/{grant}/tightened", params={"days": days})
    for line in _difference(found):
        say(line, err=as_json)
    if found["rules"] == found["present"]:
        say("The grant is as narrow as that already.", err=as_json)
        show(call("GET", f"/v1/grants/{grant}"), as_json)
        return
    insist("Narrowing the grant", "To allow more again takes a new grant.", yes=yes)
    adopted = {"days": days, "rules": found["rules"]}
    made = call("POST", f"/v1/grants/{grant}/tighten", json=adopted)
    show(made if as_json else {**made, "rules": _limits({**made, "presets": []})}, as_json)


def _difference(found: Item) -> Iterable[str]:
    """What changes, a line for each path; no line is longer than its path needs."""
    yield f"Its uses of {found['days']} days: {found['uses']} succeeded, {found['failed']} failed."
    if found["unreadable"]:
        yield f"Of {found['unreadable']} nobody knows the path any more; what they could do stays."
    before, after = _pairs(found["present"]), _pairs(found["rules"])
    yield ""
    if not before:
        yield "- every method and path"
    yield from (f"- {line}" for line in before if line not in after)
    yield from (f"  {line}" for line in before if line in after)
    yield from (f"+ {line}" for line in after if line not in before)
    if found["lost"]:
        yield "\nNot allowed any more, for example:"
        yield from (f"  {one['method']} {one['path']}" for one in found["lost"])
    if found["failed_refused"]:
        yield f"Neither are {found['failed_refused']} of the uses that failed."
    yield ""


def _pairs(rules: list[dict[str, list[str]]]) -> list[str]:
    return sorted(f"{','.join(rule['methods'])} {path}" for rule in rules for path in rule["paths"])


@app.command()
def approve(grant: Grant, as_json: AsJson = False) -> None:
    """Let a job see keys, as the second person that this needs (role security or admin)."""
    show(call("POST", f"/v1/grants/{grant}/approve"), as_json)


@app.command()
def revoke(
    grant: Annotated[str, typer.Argument(help="Its id, grt_…; with --all, left out.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All grants of --workload, --org and --provider.")] = False,
    workload: Annotated[str | None, typer.Option(help="With --all: of this job.")] = None,
    org: Annotated[str | None, typer.Option("--org", help="With --all: over this organization.")] = None,
    provider: Annotated[str | None, typer.Option(help="With --all: over this provider's keys.")] = None,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a grant back, or all that fit: no lease or use under them from now on."""
    body = {"reason": reason}
    if not every:
        if not grant or workload or org or provider:
            fail("Name one grant by its id, or add --all with --workload, --org or --provider.", Status.USAGE, "usage")
        show(call("POST", f"/v1/grants/{grant}/revoke", json=body), as_json)
        return
    if grant or not (workload or org or provider):
        fail("--all takes back what --workload, --org and --provider name; give one of them.", Status.USAGE, "usage")
    found = list(pages("/v1/grants", organization=org, workload=workload, provider=provider, state="active"))
    found += pages("/v1/grants", organization=org, workload=workload, provider=provider, state="waiting")
    if found:
        insist("Revoking them", _what_ends(found), yes=yes)
    revoked = [call("POST", f"/v1/grants/{one['id']}/revoke", json=body) for one in found]
    listing(revoked if as_json else map(_row, revoked), _COLUMNS, as_json)


def _what_ends(grants: list[dict[str, Any]]) -> str:
    jobs, slugs = _named(grants, "workload_name"), _named(grants, "organization_slug")
    return f"What stops: {len(grants)} grants, of {jobs} over {slugs}."


def _named(grants: list[dict[str, Any]], field: str) -> str:
    names = sorted({grant[field] for grant in grants})
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
