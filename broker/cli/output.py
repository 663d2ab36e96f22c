"""What commands print: tables for people, JSON for machines.

Names, paths and notes are other people's text.  It is shown as it is, is never read as markup, and steers no terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.base.shown import shown

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

_UNLIMITED = 400
_STATE_COLOURS = {
    "active": "green",
    "healthy": "green",
    "accepted": "green",
    "allowed": "green",
    "open": "cyan",
    "verifying": "yellow",
}
_BAD = {"revoked", "destroyed", "expired", "cancelled", "denied", "failing", "gone", "held"}


def show(item: Mapping[str, Any], as_json: bool) -> None:
    """Print one thing, its fields below each other."""
    if as_json:
        typer.echo(json.dumps(item))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in item.items():
        table.add_row(Text(shown(name), "bold"), _cell(name, value))
    Console().print(table)


def listing(items: Sequence[Mapping[str, Any]], columns: Iterable[str], as_json: bool) -> None:
    """Print many things, a row each."""
    if as_json:
        typer.echo(json.dumps(list(items)))
        return
    if not items:
        typer.echo("Nothing yet.")
        return
    print_table(items, columns)


def print_table(items: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Print a row each; if no terminal limits the width, a row is as wide as its content."""
    names = list(columns)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in names:
        table.add_column(Text(column), overflow="fold")
    for item in items:
        table.add_row(*(_cell(column, item.get(column)) for column in names))
    Console(width=None if sys.stdout.isatty() else _UNLIMITED).print(table)


def say(text: str, *, err: bool = False, fg: str | None = None) -> None:
    """Print a text for people, with its own line breaks; on standard error if ``err``."""
    typer.secho("\n".join(map(shown, text.split("\n"))), err=err, fg=fg)


def _cell(name: str, value: Any) -> Text:  # noqa: ANN401 - any JSON
    if value is None or value == "":
        return Text("-", "dim")
    text = shown(", ".join(map(str, value)) if isinstance(value, list) else str(value))
    if name in {"state", "health", "decision"}:
        return Text(text, _STATE_COLOURS.get(text, "red" if text in _BAD else ""))
    return Text(text)
