"""``broker operator``: people's accounts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from broker.base import variables
from broker.cli.account import AccountUnusable, account_file, insist_on_a_place, remember, remember_or_show
from broker.cli.api import broker_url, call, pages, send
from broker.cli.asking import Yes, insist
from broker.cli.failing import fail, fail_call
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show, tell
from broker.cli.whose import fit_to_send
from broker.client.errors import CallFailed

app = typer.Typer(no_args_is_help=True, help="People's accounts.")

OperatorId = Annotated[str, typer.Argument(help="Its id, opr_…; `broker operator list` shows it.")]
Shown = Annotated[bool, typer.Option("--print", help="Print the token instead of keeping it on this machine.")]


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
    print_: Shown = False,
    _as_json: AsJson = False,
) -> None:
    """Make an admin with the one-time token that the server gave out (from standard input): the first, or a second."""
    from broker.client.connecting import refuse_in_clear  # noqa: PLC0415 - help needs no HTTP client

    if for_ and not for_.startswith(("https://", "http://")):
        fail("--for: write the broker's address, such as https://keys.vendor.example")
    try:
        refuse_in_clear(for_)
    except CallFailed as error:
        fail_call(error)
    _insist_on_a_place(print_)
    token = read_secret("One-time token")
    made = send("POST", "/v1/bootstrap", json={"token": token, "name": name})
    _greet(made, for_.rstrip("/") or broker_url(), show_it=print_)


@app.command()
def recover(_as_json: AsJson = False) -> None:
    """On the server, at any time: give out a one-time token for an admin.  All operators are told.

    It needs the broker's settings, database and master key, and no account.
    """
    if find_spec("fastapi") is None:
        fail("This needs the broker's server, its database and its master key: run it there.")
    from broker.cli import onetime  # noqa: PLC0415 - the server's imports, which no other of these commands needs

    onetime.recover()


@app.command()
def renew(print_: Shown = False, _as_json: AsJson = False) -> None:
    """Make a new token for your own account; the previous one works for an hour more."""
    from_environment = bool(os.environ.get(variables.TOKEN))
    _insist_on_a_place(print_ or from_environment)
    made = call("POST", "/v1/operators/me/renew")
    _greet(made, broker_url(), show_it=print_ or from_environment)


def _insist_on_a_place(print_: bool) -> None:
    try:
        if not print_:
            insist_on_a_place()
    except AccountUnusable as error:
        fail(str(error))


def _greet(made: dict[str, Any], url: str, *, show_it: bool) -> None:
    """Keep the new account, or show its token; say who it is."""
    operator, (kept_in, text) = made["operator"], remember_or_show(url, made["token"], show_it=show_it)
    facts = {"kept_in": kept_in, "token": None if kept_in else made["token"]}
    text = f"You are {operator['name']} ({', '.join(operator['roles'])}), until {operator['expires_at']}. {text}"
    tell(text, **operator, **facts)


def login(_as_json: AsJson = False) -> None:
    """Keep the address and an operator's token for later commands: BROKER_URL, and one line of standard input."""
    try:
        token = fit_to_send(read_secret("Operator token"), "standard input")
    except AccountUnusable as error:
        fail(str(error))
    me = send("GET", "/v1/operators/me", headers={"Authorization": f"Bearer {token}"})
    try:
        path = remember(broker_url(), token)
    except AccountUnusable as error:
        fail(str(error))
    except OSError as error:
        fail(f"{account_file()}: can't be written ({error.strerror}). Make it writable, or set BROKER_TOKEN instead.")
    text = f"You are {me['name']} ({', '.join(me['roles'])}), until {me['expires_at']}. Token kept in {path}."
    tell(text, **me, kept_in=str(path))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose account it is.")],
    role: Annotated[list[str], typer.Option(help="operator, security or admin; may be repeated.")],
    org: Annotated[list[str] | None, typer.Option(help="Only these customers; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a named account; its token is printed this once."""
    made = call("POST", "/v1/operators", json={"name": name, "roles": role, "organizations": org or None})
    show({**made["operator"], "token": made["token"]}, as_json, alone=("token",))
    if made["operator"]["state"] == "waiting":
        typer.echo(
            "The token does nothing yet: within 72 hours, somebody else with the role security or admin has to run "
            f"`broker operator approve {made['operator']['id']}`.",
            err=True,
        )


@app.command()
def approve(operator_id: OperatorId, as_json: AsJson = False) -> None:
    """Let an admin's account work, as the second person that this needs (role security or admin)."""
    show(call("POST", f"/v1/operators/{operator_id}/approve"), as_json)


@app.command("list")
@prints_list(Columns("name roles state id", "expires_at organizations"))
def list_(
    state: Annotated[str | None, typer.Option(help="active, waiting, expired or revoked.")] = None,
    name: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
) -> Iterable[Item]:
    """Accounts."""
    return pages("/v1/operators", state=state, name=name)


@app.command()
def revoke(operator_id: OperatorId, as_json: AsJson = False) -> None:
    """End an account."""
    show(call("POST", f"/v1/operators/{operator_id}/revoke"), as_json)


@app.command()
def erase(operator_id: OperatorId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Erase the person of an account that has ended, for good: their name, and from where they came."""
    ends = (
        "The name is deleted, and nobody reads any more from where this person came and what they wrote, in archives "
        "neither. The account's id stays."
    )
    insist(f"Erasing the person of the account {operator_id}", ends, yes=yes)
    show(call("POST", f"/v1/operators/{operator_id}/erase"), as_json)
