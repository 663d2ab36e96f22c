"""``broker notice``: what operators were told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show

app = typer.Typer(no_args_is_help=True, help="What operators were told.")


@app.command("list")
@prints_list(
    Columns("created_at severity kind org", "text provider version credential id"),
    lambda row: {**row, "org": row["organization_slug"]},
)
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only about this organization.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind of notice.")] = None,
) -> Iterable[Item]:
    """Notices, newest first."""
    return pages("/v1/notices", organization=org, kind=kind, order="newest")


@app.command()
@prints_list(Columns("id channel state", "destination tries last_status last_error created_at notice"))
def deliveries(
    state: Annotated[str | None, typer.Option(help="pending, sent or dead.")] = None,
) -> Iterable[Item]:
    """Who was told, or could not be, newest first."""
    return pages("/v1/notices/deliveries", state=state, order="newest")


@app.command()
def resend(
    delivery_id: Annotated[str, typer.Argument(help="Its id; `broker notice deliveries --state dead` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Try a dead delivery again."""
    show(call("POST", f"/v1/notices/deliveries/{delivery_id}/resend"), as_json)
