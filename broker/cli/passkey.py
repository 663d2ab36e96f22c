"""``broker passkey``: what people sign in with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.asking import Yes, insist
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show

app = typer.Typer(no_args_is_help=True, help="What people sign in with.")

Whose = Annotated[str | None, typer.Option("--operator", help="As an admin: whose, by name or id; else your own.")]


@app.command("list")
@prints_list(Columns("name id backed_up", "created_at last_used_at"))
def list_(operator: Whose = None) -> Iterable[Item]:
    """Passkeys; one that is backed up is on several devices."""
    return pages("/v1/passkeys", operator=operator)


@app.command()
def remove(
    passkey_id: Annotated[str, typer.Argument(help="Its id, psk_…; `broker passkey list` shows it.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a passkey of yours, or as an admin somebody else's, such as one of a lost device."""
    ends = "Nobody signs in with it any more. If it is somebody else's, they are signed out everywhere."
    insist(f"Removing the passkey {passkey_id}", ends, yes=yes)
    show(call("POST", f"/v1/passkeys/{passkey_id}/remove"), as_json)
