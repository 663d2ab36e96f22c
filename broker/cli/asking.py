"""Acts that can't be undone: people are asked first, and are told what stops and for whom."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from broker.cli.api import call
from broker.cli.failing import Status, fail
from broker.cli.output import say

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def insist(act: str, ends: str, *, yes: bool) -> None:
    """Ask whether to do ``act``; ends the command on no.  ``ends`` says what stops and for whom.

    Nothing is asked if ``yes``.  Without a terminal nobody can be asked, and the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{act} can't be undone. {ends} Add --yes to do it without being asked.", Status.USAGE, "confirm")
    say(f"{act} can't be undone. {ends}", err=True, fg="yellow")
    if not typer.confirm("Do it?", default=False, err=True):
        fail("Nothing was changed.", Status.REFUSED, "cancelled")


def insist_on_ending(act: str, path: str, *, yes: bool) -> None:
    """Ask whether to do ``act``, which ends what the resource at ``path`` carries.

    The broker is asked what that is.
    """
    if not yes:
        insist(act, _words(call("GET", f"{path}/dependents")), yes=yes)


def _words(stops: dict[str, Any]) -> str:
    """What stops, and for whom."""
    things = [
        _counted(stops["versions"], "key"),
        _counted(stops["grants"], "grant"),
        _counted(stops["open_leases"], "open lease"),
    ]
    carried = ", ".join(thing for thing in things if thing) or "nothing that is in use"
    jobs, total = stops["workloads"], stops["workloads_total"]
    if not total:
        return f"What stops: {carried}; no job used them in the last {stops['days']} days."
    named = ", ".join(jobs) + (f" and {total - len(jobs)} more" if total > len(jobs) else "")
    return f"What stops: {carried}; {_counted(total, 'job')} used them in the last {stops['days']} days: {named}."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
