"""How a command ends that couldn't do what it was asked.

The text goes to standard error.  With ``--json`` a problem (RFC 9457) goes there instead, in one line: the broker's own
if it refused, else one of the same form.  Its ``exit_status`` is the status with which the command ends.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import NoReturn

import typer

from broker.base.shown import shown
from broker.cli import running
from broker.cli.output import say
from broker.client.errors import CallFailed

_PROBLEM = "urn:keybroker:problem:"


class Status(IntEnum):
    """The exit status of a command.

    ``exec`` ends with the status of what it ran, and ``scan`` tells what it found.
    """

    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5


EXIT_STATUSES = (
    "Exit status: 0 done; 1 refused or invalid; 2 wrong usage; 3 the broker can't be reached or can't answer now; "
    "4 not found; 5 in conflict with what is there."
)


def fail_call(error: CallFailed, status: Status | None = None) -> NoReturn:
    """End the command with what the broker said, or that it said nothing."""
    status = status or status_of(error)
    if running.prints_json():
        _problem(error.problem or {"status": error.status}, error.code, str(error), status)
    else:
        # Only what the client says itself, with no answer at hand, has several lines.
        lines = str(error).split("\n") if error.status is None else [str(error)]
        text = "\n".join(map(shown, lines))
        say(f"error: {text} [{error.code}]", err=True, fg="red")
    raise typer.Exit(status)


def fail(text: str, status: int = Status.REFUSED, code: str = "failed") -> NoReturn:
    """End the command with ``text``, which says what to do."""
    if running.prints_json():
        fail_in_json(text, status, code)
    say(f"error: {text}", err=True, fg="red")
    raise typer.Exit(status)


def fail_in_json(text: str, status: int, code: str) -> NoReturn:
    """End the command with a problem."""
    _problem({}, code, text, status)
    raise typer.Exit(status)


def status_of(error: CallFailed) -> Status:
    """The exit status that stands for the broker's answer."""
    if error.transient:
        return Status.UNREACHABLE
    return {404: Status.NOT_FOUND, 409: Status.CONFLICT}.get(error.status or 0, Status.REFUSED)


def _problem(known: dict[str, object], code: str, text: str, status: int) -> None:
    """Print the problem on standard error."""
    whole = {"type": _PROBLEM + code, "title": code.replace("_", " "), **known, "code": code, "detail": text}
    told = {name: value for name, value in whole.items() if value is not None}
    say(json.dumps({**told, "exit_status": int(status)}), err=True)
