"""``broker profile``: accounts at several brokers, each under a name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli import account
from broker.cli.account import AccountUnusable
from broker.cli.failing import fail
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, tell

app = typer.Typer(no_args_is_help=True, help="Accounts at several brokers.")

Name = Annotated[str, typer.Argument(help="The profile; `broker profile list` shows them.")]


@app.command("list")
@prints_list(Columns("profile broker in_use"))
def list_() -> Iterable[Item]:
    """The accounts that are kept on this machine; `broker login --profile NAME` adds one."""
    try:
        in_use = account.profile()
        return [{"profile": name, "broker": _broker(name), "in_use": name == in_use} for name in account.profiles()]
    except AccountUnusable as error:
        fail(str(error))


@app.command()
def use(name: Name, _as_json: AsJson = False) -> None:
    """Let a profile count where neither --profile nor BROKER_PROFILE names one."""
    _insist_on(name)
    try:
        account.use(name)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; name the profile in BROKER_PROFILE instead.")
    tell(f"Commands now go to {_broker(name)}, as the profile {name} has it.", profile=name, broker=_broker(name))


@app.command()
def remove(name: Name, _as_json: AsJson = False) -> None:
    """Remove a stored account; as `broker logout`, this does not end its token."""
    _insist_on(name)
    try:
        account.forget(name)
    except (AccountUnusable, OSError) as error:
        fail(str(error))
    tell(
        f"Removed the account of the profile {name}. Its token works until it ends, or an admin ends the account.",
        profile=name,
        removed=True,
    )


def _insist_on(name: str) -> None:
    try:
        there = account.profiles()
    except AccountUnusable as error:
        fail(str(error))
    if name not in there:
        fail(f"There is no profile of that name. There is: {', '.join(there) or 'none yet'}.")


def _broker(name: str) -> str:
    try:
        kept = account.stored(name)
    except AccountUnusable as error:
        return str(error)
    return kept.url if kept else ""
