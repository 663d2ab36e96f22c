"""Events of the record on a terminal: by day, a line each.

What happened is below if it has no room beside the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import typer
from rich.cells import cell_len

from broker.base.shown import shown
from broker.cli.output import Item, say, terminal_width, wrapped

# What most kinds take.  A longer one moves what follows.
_KIND_WIDTH = 24
_INDENT = " " * 10


def row(event: Item) -> Item:
    """An event as a line of a table."""
    core = event["core"]
    return {
        "#": event["index"],
        "time": event["time"],
        "event": event["kind"],
        "decision": event["decision"],
        "who": (event["personal"] or {}).get("actor_name") or core["actor"]["id"] + " (erased)" * event["erased"],
        "what": " ".join(part for part in _what(event) if part),
    }


def _what(event: Item) -> Iterator[str]:
    core, personal = event["core"], event["personal"] or {}
    if (trust := core.get("subject", "")).startswith("trs_"):
        # What the platform signed says which run it was; what it calls its token says nothing.
        yield from (core.get("provider", ""), trust, personal.get("note", ""))
        return
    yield from (core.get("provider", ""), core.get("mode", ""), core.get("reason", ""))
    if event["kind"] == "auth.token_refused":
        yield personal.get("note", "")
    if "target" in core:
        yield f"{core['target']['method']} {core['target']['host']}{personal.get('path', '')}"
    if "outcome" in core:
        yield f"→ {core['outcome']['status'] or 'no answer'} in {core['outcome']['ms']} ms"


class Trail:
    """Prints events on a terminal as they come."""

    def __init__(self) -> None:
        self._day = ""

    def show(self, event: Item) -> None:
        """Print one."""
        line = row(event)
        day, _, time = str(line["time"]).partition("T")
        if day != self._day:
            say(f"{day} (UTC)")
            self._day = day
        for number, text in enumerate(_lines(line, time[:8], terminal_width())):
            denied = not number and line["decision"] == "denied"
            typer.secho(text, fg="red" if denied else None)


def show_all(events: Iterable[Item]) -> bool:
    """Print events on a terminal; says whether there were any."""
    trail, some = Trail(), False
    for event in events:
        trail.show(event)
        some = True
    return some


def _lines(line: Item, time: str, width: int) -> Iterator[str]:
    """What of an event has room beside it, and the rest below."""
    head = shown(f"{time}  {line['event']:{_KIND_WIDTH}}  {line['who']}")
    what = shown(f"{'denied ' if line['decision'] == 'denied' else ''}{line['what']}".strip())
    if cell_len(f"{head}  {what}") <= width:
        yield f"{head}  {what}".rstrip()
        return
    yield head.rstrip()
    for text in wrapped(what, width - len(_INDENT)):
        yield f"{_INDENT}{text}"
