"""``broker trust``: which platforms' tokens are a job's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from broker.cli.api import call, pages
from broker.cli.failing import Status, fail
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, say, show
from broker.cli.proposing import agreed, read_token
from broker.cli.signature import Options, take_options
from broker.cli.verdict import lines
from broker.issuers.presets import PRESETS

app = typer.Typer(no_args_is_help=True, help="Which platforms' tokens are a job's.")

Trust = Annotated[str, typer.Argument(help="Its id, trs_…; `broker trust list` shows it.")]
Workload = Annotated[str, typer.Argument(help="The job's name or id.")]
TokenFile = typer.Option(metavar="FILE", help="A file with a token of the job's platform; - for standard input.")

_COLUMNS = Columns("workload issuer state id", "binds expires_at networks note created_by")
# What Python's own words can't name.
_OPTION = "claim_"


def _options() -> Options:
    """An option for each claim of each platform, by its short name."""
    titles: dict[str, list[str]] = {}
    for preset in sorted(PRESETS.values(), key=lambda one: one.id == "oidc"):
        for claim in preset.claims:
            titles.setdefault(claim.name, []).append("others" if preset.id == "oidc" else preset.title)
    return {
        f"{_OPTION}{name}": (
            Annotated[
                list[str] | None,
                typer.Option(
                    f"--{name.replace('_', '-')}", help=f"On {', '.join(whose)}.", rich_help_panel="Claims, by platform"
                ),
            ],
            None,
        )
        for name, whose in sorted(titles.items())
    }


def _add(
    workload: Workload,
    issuer: Annotated[str, typer.Option(help="The issuer's id; `broker issuer list` shows it.")],
    claim: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of a claim; may be repeated, also for further values.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option("--from", metavar="CIDR", help="Only from this network; may be repeated.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    from_token: Annotated[str | None, TokenFile] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: AsJson = False,
    **_claims: list[str] | None,
) -> None:
    """Trust the tokens of an issuer that say just this to be a job's.

    A claim that is given several values has to have one of them.

    With --from-token, a real token is read on this machine.
    What a trust has to bind is taken from it, and nothing else of it is sent.
    """
    declared = call("GET", f"/v1/issuers/{issuer}")
    claims = _bound(declared, claim or [], _claims)
    if from_token is not None:
        claims = agreed(declared, read_token(from_token), claims, yes=yes)
    body = {"workload": workload, "issuer": issuer, "claims": claims, "networks": network or [], "note": note}
    made = call("POST", "/v1/trusts", json={**body, "expires_at": expires})
    for warning in made["warnings"]:
        say(f"Note: {warning}", err=True, fg="yellow")
    show(made if as_json else _row(made), as_json)


def _registered() -> None:
    """Make the command; the options of all platforms' claims stand after its own."""

    def add(**options: Any) -> None:
        _add(**options)

    add.__doc__ = _add.__doc__
    take_options(add, _add, after=_options())
    app.command("add")(add)


_registered()


def _bound(declared: Item, pairs: Sequence[str], options: Mapping[str, list[str] | None]) -> dict[str, list[str]]:
    """What the command line binds; ends the command where the platform has no such claim."""
    claims = {name.removeprefix(_OPTION): list(values) for name, values in options.items() if values}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not value:
            fail("--claim: write NAME=VALUE, such as repository_id=456789.", Status.USAGE, "usage")
        claims.setdefault(name.replace("-", "_"), []).append(value)
    for name in claims:
        if name not in declared["claims"]:
            text = f"{name}: {declared['title']} has no such claim; take one of {', '.join(declared['claims'])}."
            fail(text, Status.USAGE, "usage")
    return claims


def _row(trust: Item) -> Item:
    """A trust as people read it."""
    binds = [f"{name}={' or '.join(values)}" for name, values in trust["claims"].items()]
    told = {name: value for name, value in trust.items() if name not in {"claims", "workload_name"}}
    return {**told, "workload": trust["workload_name"], "binds": binds}


@app.command("list")
@prints_list(_COLUMNS, _row)
def list_(
    workload: Annotated[str | None, typer.Option(help="Only of this job.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Only in this issuer.")] = None,
    expiring: Annotated[str | None, typer.Option(help="Only those that end within so many days, such as 30d.")] = None,
    state: Annotated[str | None, typer.Option(help="active or revoked.")] = None,
) -> Iterable[Item]:
    """Trusts."""
    return pages("/v1/trusts", workload=workload, issuer=issuer, expiring_days=_days(expiring), state=state)


def _days(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,4})d?", text)
    if found is None:
        fail("--expiring: write a number of days, such as 30d.", Status.USAGE, "usage")
    return int(found[1])


@app.command("show")
def show_(trust_id: Trust, as_json: AsJson = False) -> None:
    """One trust."""
    found = call("GET", f"/v1/trusts/{trust_id}")
    show(found if as_json else _row(found), as_json)


@app.command()
def explain(
    workload: Workload,
    token: Annotated[str, TokenFile],
    address: Annotated[str | None, typer.Option("--from", help="The address that the job calls from.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try a platform's token: which checks it passes, which trust takes it, what fixes a refusal.

    The token goes to the broker, which checks it as at a sign-in, and doesn't use it up.
    """
    body = {"workload": workload, "token": read_token(token), "address": address}
    found = call("POST", "/v1/trusts/explain", json=body)
    if as_json:
        show(found, as_json)
        return
    for text, colour in lines(found):
        say(text, fg=colour)


@app.command()
def revoke(
    trust_id: Trust,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take a trust back: what was proved by it ends, and calls in flight are cut."""
    made = call("POST", f"/v1/trusts/{trust_id}/revoke", json={"reason": reason})
    show(made if as_json else _row(made), as_json)
