"""``broker session``: where people are signed in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show, tell

app = typer.Typer(no_args_is_help=True, help="Where you are signed in.")

Whose = Annotated[str | None, typer.Option("--operator", help="As an admin: whose, by name or id; left out, your own.")]


@app.command("list")
@prints_list(Columns("id client way address present", "created_at seen_at ends_at agent"))
def list_(operator: Whose = None) -> Iterable[Item]:
    """Sessions that have not ended; the present one is this command's."""
    return pages("/v1/sessions", operator=operator)


@app.command()
def end(
    session_id: Annotated[str, typer.Argument(help="Its id, ses_…; `broker session list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Sign out somewhere else; as an admin, sign somebody else out."""
    show(call("POST", f"/v1/sessions/{session_id}/end"), as_json)


@app.command()
def end_others(_as_json: AsJson = False) -> None:
    """Sign out everywhere but here."""
    ended = call("POST", "/v1/sessions/end")["ended"]
    tell(f"Signed out in {ended} other place{'' if ended == 1 else 's'}.", ended=ended)
