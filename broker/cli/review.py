"""``broker review``: whether grants and accounts are still needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.asking import Yes, insist
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show
from broker.cli.proofs import Personal
from broker.cli.saving import Out, save

app = typer.Typer(no_args_is_help=True, help="Whether grants and accounts are still needed.")

Review = Annotated[str, typer.Argument(help="Its id, rev_…; `broker review list` shows it.")]


def _row(review: Item) -> Item:
    """A review as people read it."""
    return {**review, "org": review["organization_slug"], "whose": review["workload_name"] or review["account_name"]}


@app.command("list")
@prints_list(Columns("due_at state whose id", "org provider subject decision decided_at decided_by"), _row)
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization.")] = None,
    state: Annotated[str | None, typer.Option(help="scheduled, due, overdue, decided or ended.")] = None,
) -> Iterable[Item]:
    """Reviews, by the time that they are due."""
    return pages("/v1/reviews", organization=org, state=state)


@app.command("show")
def show_(review: Review, as_json: AsJson = False) -> None:
    """One review."""
    show(call("GET", f"/v1/reviews/{review}"), as_json)


@app.command()
def start(
    subject: Annotated[str, typer.Argument(help="A grant's id, grt_…, or an account's, opr_….")],
    as_json: AsJson = False,
) -> None:
    """Have a grant or an account reviewed within 30 days, before its time."""
    show(call("POST", "/v1/reviews", json={"subject": subject}), as_json)


@app.command()
def decide(
    review: Review,
    decision: Annotated[str, typer.Option(help="keep, revoke, or tighten: a grant, to what it was used for.")],
    reason: Annotated[str, typer.Option(help="Why; it is on the record.")],
    days: Annotated[int, typer.Option(help="To tighten: what it was used for in so many days stays allowed.")] = 90,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Decide a review: of what you didn't make and don't hold yourself."""
    if decision != "keep":
        found = _row(call("GET", f"/v1/reviews/{review}"))
        of = f" over {found['org']}" if found["org"] else ""
        ends = "whose access ends" if decision == "revoke" else "which keeps what it was used for"
        insist("This decision", f"It is about {found['subject']} of {found['whose']}{of}, {ends}.", yes=yes)
    body = {"decision": decision, "reason": reason, "days": days}
    show(call("POST", f"/v1/reviews/{review}/decide", json=body), as_json)


@app.command()
def export(
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339 time, such as 2027-01-31T09:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 time; left out, now.")] = None,
    personal: Personal = False,
    out: Out = None,
    _as_json: AsJson = False,
) -> None:
    """Export decisions with the receipts of their events, as evidence: one JSON value a line."""
    save("/v1/reviews/export", out, since=since, until=until, personal=personal)
