"""``broker migrate``: the database's schema, up and down."""

from __future__ import annotations

import sys

import typer

from broker import app as composition
from broker import database, schema
from broker.cli import onetime
from broker.cli.failing import Status, fail
from broker.cli.hosting import DESTROY
from broker.cli.output import say, tell
from broker.cli.process import run_or_fail, settings_of_process
from broker.config import Settings
from broker.database import Descent


def run(revision: str, *, down: bool, new_token: bool, yes: bool, destroy: str) -> None:
    """``broker migrate``."""
    settings = settings_of_process()
    if down:
        _go_down(settings, revision, yes=yes, destroy=destroy)
        return

    async def work() -> None:
        await database.migrate(settings, revision)
        tell(f"The database is at {revision}.", revision=revision)
        if revision not in {"head", [*schema.revisions()][-1]}:
            return
        async with composition.running(settings) as broker:
            await onetime.offer(broker, settings, replace=new_token)

    run_or_fail(work())


def _go_down(settings: Settings, revision: str, *, yes: bool, destroy: str) -> None:
    found = run_or_fail(database.descent(settings, revision))
    if found.revisions:
        _insist_on_assent(found, revision, yes=yes, destroy=destroy)
        run_or_fail(database.migrate(settings, revision, down=True))
    tell(f"The database is at {revision}.", revision=revision)


def _insist_on_assent(found: Descent, revision: str, *, yes: bool, destroy: str) -> None:
    """Ask whoever is at the terminal, unless an option says it; without assent the command ends.

    A database with events has the record of what was done with customers' keys, so its name is wanted.
    """
    recorded = found.held["events"] > 0
    if destroy and destroy != found.name:
        fail(f"{DESTROY}: the database is called {found.name}, not {destroy}. Nothing was changed.")
    if destroy or (yes and not recorded):
        return
    say(_loss(found, revision), err=True)
    if not sys.stdin.isatty():
        option = f"{DESTROY} {found.name}" if recorded else "--yes"
        fail(f"Nothing was changed, as nobody can be asked. Add {option} if you mean it.", Status.USAGE, "confirm")
    if not recorded:
        typer.confirm("Go down?", abort=True, err=True)
    elif typer.prompt("Its name, to go down", err=True) != found.name:
        fail(f"That isn't its name, {found.name}. Nothing was changed.")


def _loss(found: Descent, revision: str) -> str:
    """What stops, and what is lost."""
    held = ", ".join(f"{what}: {count:,}" for what, count in found.held.items() if count)
    undone = "\n".join(f"  {step}  {brought}" for step, brought in found.revisions.items())
    return (
        f"The database {found.name} goes down to {revision}. No broker of this version runs on it then, so every job's "
        f"access stops.\nIn it: {held or 'nothing yet'}. These are undone, and what came with them is lost:\n{undone}"
    )
