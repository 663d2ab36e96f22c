"""Follow the record: print events as they come, until somebody ends it.

It goes on by the index of the last event, so that none is left out, whatever happens to the broker meanwhile.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer

from broker.cli import running
from broker.cli.api import ask, broker_url, call
from broker.cli.failing import fail_call
from broker.cli.output import Item, say
from broker.cli.trail import Trail, row
from broker.client.errors import CallFailed

_PATH: Final = "/v1/audit/events"
# Events before the first new one, for a beginning.
_BEFORE: Final = 10
_PAGE: Final = 500
_EVERY_S: Final = 1.0
_RETRY_S: Final = (1.0, 2.0, 5.0, 10.0)


def follow(wanted: Mapping[str, Any]) -> None:
    """Print events that match, from the last few on; ends at Ctrl-C, or if the broker refuses."""
    try:
        _follow({name: value for name, value in wanted.items() if value is not None}, _printing())
    except KeyboardInterrupt:
        raise typer.Exit from None


def _follow(wanted: Mapping[str, Any], show: Callable[[Item], None]) -> None:
    page = call("GET", _PATH, params={**wanted, "order": "newest", "limit": min(running.limit() or _BEFORE, _PAGE)})
    for event in reversed(page["items"]):
        show(event)
    after = max([page["read"]["index"], *(event["index"] for event in page["items"])])
    if sys.stderr.isatty():
        say(f"Waiting for events of {broker_url()}; Ctrl-C ends it.", err=True)
    while True:
        time.sleep(0 if page["next"] else _EVERY_S)
        going_on = {"order": "oldest", "limit": _PAGE, "after": after, "following": page["read"]["id"]}
        page = _answer({**wanted, **going_on})
        for event in page["items"]:
            show(event)
            after = event["index"]


def _answer(params: Mapping[str, Any]) -> dict[str, Any]:
    """The broker's answer, asked for until it comes."""
    failed = 0
    while True:
        try:
            page = ask("GET", _PATH, params=params)
        except CallFailed as error:
            if not error.transient:
                fail_call(error)
            if not failed:
                say(f"{error} Trying again; no event will be left out.", err=True)
            time.sleep(_RETRY_S[min(failed, len(_RETRY_S) - 1)])
            failed += 1
            continue
        if failed:
            say("The broker answers again.", err=True)
        return page


def _printing() -> Callable[[Item], None]:
    """Each event as whoever reads takes it: JSON, a line, or as people see it on a terminal."""
    if running.prints_json():
        return lambda event: typer.echo(json.dumps(event))
    if sys.stdout.isatty():
        return Trail().show
    return lambda event: say("  ".join(str(value) for value in row(event).values() if value))
