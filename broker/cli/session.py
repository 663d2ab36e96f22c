"""``broker whoami`` and ``logout``: who you are on this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import typer

from broker.base import variables
from broker.cli import account
from broker.cli.api import broker_url, call, glance
from broker.cli.failing import fail
from broker.cli.output import AsJson, say, show, tell
from broker.cli.running import prints_json


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(whoami)
    app.command()(logout)


def whoami(as_json: AsJson = False) -> None:
    """Who you are to which broker: your roles and customers, when your access ends, and where it is from."""
    me = call("GET", "/v1/operators/me")
    until = me["session"]["ends_at"] if me["session"] else me["expires_at"]
    given = bool(os.environ.get(variables.TOKEN))
    source = {"profile": None if given else account.profile(), "token_from": variables.TOKEN if given else "profile"}
    if as_json:
        show({**me, "broker": broker_url(), **source}, as_json)
        return
    show(
        {
            "you are": me["name"],
            "id": me["id"],
            "roles": me["roles"],
            "customers": me["organizations"] or "all",
            "until": until,
            "broker": broker_url(),
            "token from": variables.TOKEN if given else f"profile {source['profile']}: {account.account_file()}",
        },
        as_json,
    )


def logout(_as_json: AsJson = False) -> None:
    """Sign out, and remove your stored account from this machine. A machine's token is only removed."""
    name = _profile()
    known: dict[str, Any] = {}
    with suppress(account.AccountUnusable):  # what can't be read can be removed all the same
        if kept := account.stored():
            known = glance("/v1/operators/me", kept)
            if session := known.get("session"):
                known["ended"] = bool(glance(f"/v1/sessions/{session['id']}/end", kept, method="POST"))
    try:
        removed = account.forget(name)
    except (account.AccountUnusable, OSError) as error:
        fail(str(error))
    if not removed:
        fail(f"There is no account in the profile {name}; `broker profile list` shows where there is one.")
    until, operator = known.get("expires_at"), known.get("id")
    if session := known.get("session"):
        until = None if known["ended"] else session["ends_at"]
    text = f"Removed the account of the profile {name}."
    if known.get("ended"):
        text = f"Signed out. {text}"
    else:
        ends = f"works until {until}" if until else "works until it ends"
        revoke = f"`broker operator revoke {operator or 'ID'}`"
        text += f" Copies of the token {ends}, unless an admin ends the account: {revoke}."
    tell(text, profile=name, removed=True, operator=operator, ended=bool(known.get("ended")), token_valid_until=until)
    if os.environ.get(variables.TOKEN) and not prints_json():
        say("BROKER_TOKEN is set, and commands go on using it.", err=True)


def _profile() -> str:
    try:
        return account.profile()
    except account.AccountUnusable as error:
        fail(str(error))
