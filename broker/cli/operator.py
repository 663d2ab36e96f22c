"""``broker operator``: people's accounts, and machines'."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Any
from urllib.parse import quote

import typer

from broker.base import variables
from broker.cli.account import AccountUnusable, insist_on_a_place, remember_or_show
from broker.cli.api import broker_url, call, pages, send
from broker.cli.asking import Yes, insist
from broker.cli.failing import fail, fail_call
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show, tell
from broker.client.errors import CallFailed

app = typer.Typer(no_args_is_help=True, help="People's accounts, and machines'.")

Operator = Annotated[str, typer.Argument(help="Its name or id; `broker operator list` shows both.")]
OperatorId = Annotated[str, typer.Argument(help="Its id, opr_…; `broker operator list` shows it.")]
Roles = Annotated[list[str], typer.Option("--role", help="operator, security or admin; may be repeated.")]
Only = Annotated[list[str] | None, typer.Option("--org", help="Only these customers; may be repeated.")]
Shown = Annotated[bool, typer.Option("--print", help="Print the token instead of keeping it on this machine.")]


def _path(operator: str) -> str:
    """Where the broker has an account; names of people hold anything."""
    return f"/v1/operators/{quote(operator, safe='')}"


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
    insist_on_keeping(print_)
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
    """As a machine: make a new token for the own account; the previous one works for an hour more."""
    from_environment = bool(os.environ.get(variables.TOKEN))
    insist_on_keeping(print_ or from_environment)
    made = call("POST", "/v1/operators/me/renew")
    _greet(made, broker_url(), show_it=print_ or from_environment)


def insist_on_keeping(print_: bool = False) -> None:
    """End the command if what it is to get once can't be kept, unless it is to be printed."""
    try:
        if not print_:
            insist_on_a_place()
    except AccountUnusable as error:
        fail(str(error))


def _greet(made: dict[str, Any], url: str, *, show_it: bool) -> None:
    """Keep the new token, or show it; say who it is for."""
    operator, (kept_in, text) = made["operator"], remember_or_show(url, made["token"], show_it=show_it)
    until = made.get("ends_at") or operator["expires_at"]
    facts = {"kept_in": kept_in, "token": None if kept_in else made["token"], "until": until}
    text = f"You are {operator['name']} ({', '.join(operator['roles'])}), until {until}. {text}"
    if link := made.get("link"):
        facts["link"] = link
        text += f"\nThen `broker login` signs you in. Open this link within a day, and make a passkey:\n\n{link}\n"
    tell(text, **operator, **facts)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose account it is.")],
    role: Roles,
    org: Only = None,
    as_json: AsJson = False,
) -> None:
    """Make a person's account; the link by which they sign in first is printed this once."""
    _invite(call("POST", "/v1/operators", json={"name": name, "roles": role, "organizations": org or None}), as_json)


@app.command()
def link(operator: Operator, as_json: AsJson = False) -> None:
    """Make another one-time link for a person who has lost their way in; it is printed this once."""
    _invite(call("POST", f"{_path(operator)}/link"), as_json)


def _invite(made: dict[str, Any], as_json: bool) -> None:
    show({**made["operator"], "link_ends_at": made["link_ends_at"], "link": made["link"]}, as_json, alone=("link",))
    typer.echo("Give the link to this person alone: whoever opens it signs in as them.", err=True)
    _say_if_it_waits(made["operator"])


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Which program it is for.")],
    role: Roles,
    org: Only = None,
    days: Annotated[int, typer.Option(min=1, max=90, help="When it ends.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Make a token for a program, which ends; it is printed this once.  What needs a person, it can't do."""
    wanted = {"name": name, "roles": role, "organizations": org or None, "days": days}
    made = call("POST", "/v1/operator-tokens", json=wanted)
    show({**made["operator"], "token": made["token"]}, as_json, alone=("token",))
    _say_if_it_waits(made["operator"])


def _say_if_it_waits(operator: dict[str, Any]) -> None:
    if operator["state"] == "waiting":
        typer.echo(
            "The account does nothing yet: within 72 hours, somebody else with the role security or admin has to run "
            f"`broker operator approve {operator['id']}`.",
            err=True,
        )


@app.command()
def approve(operator: Operator, as_json: AsJson = False) -> None:
    """Let an admin's account work, as the second person that this needs (role security or admin)."""
    show(call("POST", f"{_path(operator)}/approve"), as_json)


@app.command()
def identify(
    operator: Operator,
    provider: Annotated[str, typer.Option(help="The identity provider's id, as BROKER_SIGN_IN_FILE has it.")],
    subject: Annotated[str, typer.Option(help="What the provider calls the person in `sub`; no name, no address.")],
    as_json: AsJson = False,
) -> None:
    """Let somebody at an identity provider have an account that is there already; its roles become theirs there."""
    told = {"provider": provider, "subject": subject}
    show(call("POST", f"{_path(operator)}/identity", json=told), as_json)


@app.command()
@prints_list(Columns("issuer subject id", "created_at operator"))
def identities(
    operator: Annotated[str | None, typer.Argument(help="As an admin: whose, by name or id; else your own.")] = None,
) -> Iterable[Item]:
    """Whom identity providers know a person as."""
    return pages("/v1/identities", operator=operator)


@app.command()
def unlink(
    identity_id: Annotated[str, typer.Argument(help="Its id, idn_…; `broker operator identities` shows it.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End the link of somebody at an identity provider to an account that is not yours."""
    ends = (
        "The person is signed out everywhere, and the provider is not asked about them any more. The account keeps its "
        "roles: `broker operator revoke` ends it."
    )
    insist(f"Unlinking the identity {identity_id}", ends, yes=yes)
    show(call("POST", f"/v1/identities/{identity_id}/unlink"), as_json)


@app.command("list")
@prints_list(Columns("name kind roles state id", "expires_at organizations"))
def list_(
    state: Annotated[str | None, typer.Option(help="active, waiting, expired or revoked.")] = None,
    name: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
) -> Iterable[Item]:
    """Accounts."""
    return pages("/v1/operators", state=state, name=name)


@app.command()
def revoke(operator: Operator, as_json: AsJson = False) -> None:
    """End an account."""
    show(call("POST", f"{_path(operator)}/revoke"), as_json)


@app.command()
def erase(operator_id: OperatorId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Erase the person of an account that has ended, for good: their name, and from where they came."""
    ends = (
        "The name is deleted, and nobody reads any more from where this person came and what they wrote, in archives "
        "neither. The account's id stays."
    )
    insist(f"Erasing the person of the account {operator_id}", ends, yes=yes)
    show(call("POST", f"/v1/operators/{operator_id}/erase"), as_json)
