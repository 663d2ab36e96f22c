"""``broker operator``: people's accounts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from broker.cli.account import remember
from broker.cli.api import broker_url, call, fail, fail_call, pages, send
from broker.cli.output import AsJson, listing, say, show
from broker.client.connecting import refuse_in_clear
from broker.client.errors import CallFailed

app = typer.Typer(no_args_is_help=True, help="People's accounts.")


def read_secret(what: str) -> str:
    """A secret from standard input: asked for without echo on a terminal, else one line."""
    value = typer.prompt(what, hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    if not str(value).strip():
        fail(f"{what}: nothing came on standard input.")
    return str(value).strip()


@app.command()
def bootstrap(
    name: Annotated[str, typer.Option(help="The admin's name.")],
    for_: Annotated[
        str, typer.Option("--for", help="Keep the account for this address, where BROKER_URL is only a way to it.")
    ] = "",
) -> None:
    """Make an admin with the one-time token that the server gave out (from standard input): the first, or a second."""
    if for_ and not for_.startswith(("https://", "http://")):
        fail("--for: write the broker's address, such as https://keys.vendor.example")
    try:
        refuse_in_clear(for_)
    except CallFailed as error:
        fail_call(error)
    token = read_secret("One-time token")
    made = send("POST", "/v1/bootstrap", json={"token": token, "name": name})
    path = remember(for_.rstrip("/") or broker_url(), made["token"])
    say(f"You are {made['operator']['name']} ({', '.join(made['operator']['roles'])}). Token kept in {path}.")


def login() -> None:
    """Keep the address (BROKER_URL) and an operator's token (from standard input) for later commands."""
    token = read_secret("Operator token")
    me = send("GET", "/v1/operators/me", headers={"Authorization": f"Bearer {token}"})
    say(f"You are {me['name']} ({', '.join(me['roles'])}). Token kept in {remember(broker_url(), token)}.")


@app.command()
def add(
    name: str,
    role: Annotated[list[str], typer.Option(help="operator, security or admin; may be repeated.")],
    org: Annotated[list[str] | None, typer.Option(help="Only these customers; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a named account; its token is printed this once."""
    made = call("POST", "/v1/operators", json={"name": name, "roles": role, "organizations": org or None})
    show({**made["operator"], "token": made["token"]}, as_json)
    if made["operator"]["state"] == "waiting":
        typer.echo(
            "The token does nothing yet: within 72 hours, somebody else with the role security or admin has to run "
            f"`broker operator approve {made['operator']['id']}`.",
            err=True,
        )


@app.command()
def approve(operator_id: str, as_json: AsJson = False) -> None:
    """Let an admin's account work, as the second person that this needs (role security or admin)."""
    show(call("POST", f"/v1/operators/{operator_id}/approve"), as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every account."""
    listing(pages("/v1/operators"), ["id", "name", "roles", "organizations", "state", "expires_at"], as_json)


@app.command()
def revoke(operator_id: str, as_json: AsJson = False) -> None:
    """End an account."""
    show(call("POST", f"/v1/operators/{operator_id}/revoke"), as_json)
