"""What commands print: tables for people, JSON for machines.

Names, paths and notes are other people's text.  It is shown as it is, is never read as markup, and steers no terminal.
What somebody will copy (an id, a token, an address) is never cut and never broken by a line end of ours.

With ``--json`` a command prints one JSON value: an object, or for a list one array of objects that all have the same
fields.  If it fails, it prints nothing there, or an array that isn't closed, and one problem on standard error: see
:mod:`broker.cli.failing`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from broker.base.shown import shown
from broker.cli import running

Item = Mapping[str, Any]

AsJson = Annotated[
    bool,
    typer.Option("--json", is_eager=True, callback=running.begin, help="Print JSON for machines; errors, too."),
]
Wide = Annotated[bool, typer.Option("--wide", help="Every column, whatever the terminal's width.")]

_GAP = "  "
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z")
_STATE_COLOURS = {
    "active": "green",
    "healthy": "green",
    "accepted": "green",
    "allowed": "green",
    "open": "cyan",
    "verifying": "yellow",
}
_BAD = {"revoked", "destroyed", "expired", "cancelled", "denied", "failing", "gone", "held"}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a list.

    Some are always there; ``more`` are there if the terminal has room.  Both are names with spaces between.
    What people type comes first.
    """

    always: str
    more: str = ""

    @property
    def every(self) -> list[str]:
        """All names."""
        return [*self.always.split(), *self.more.split()]

    def within(self, width: int, widths: Mapping[str, int]) -> list[str]:
        """The names that fit into ``width`` cells, where a column takes so many of ``widths``."""
        chosen = self.always.split()
        for name in self.more.split():
            if sum(widths[one] + len(_GAP) for one in [*chosen, name]) - len(_GAP) <= width:
                chosen.append(name)
        return chosen


def show(item: Item, as_json: bool, *, alone: Sequence[str] = ()) -> None:
    """Print one thing, its fields below each other.

    The fields that ``alone`` names are secrets that are shown once: each is on a line of its own, after all others.
    """
    if as_json:
        typer.echo(json.dumps(item))
        return
    fields = {name: value for name, value in item.items() if name not in alone}
    name_width = max((cell_len(shown(name)) for name in fields), default=0)
    console = _console()
    width = max(20, console.width - name_width - len(_GAP)) if sys.stdout.isatty() else None
    for name, value in fields.items():
        for number, line in enumerate(_wrapped(_cell(name, value), width)):
            _print(console, [Text("" if number else shown(name), "bold"), line], [name_width])
    for name in alone:
        if item.get(name):
            say(f"\n{name}, shown this once:\n")
            say(str(item[name]))


def listing(items: Iterable[Item], columns: Columns, as_json: bool, *, wide: bool = False) -> None:
    """Print many things, a row each, as they come."""
    if as_json:
        _as_array(items)
        return
    table = _Rows(columns, wide=wide)
    for item in items:
        table.add(item)
    table.end()


def say(text: str, *, err: bool = False, fg: str | None = None) -> None:
    """Print a text for people, with its own line breaks; on standard error if ``err``."""
    typer.secho("\n".join(map(shown, text.split("\n"))), err=err, fg=fg)


def tell(text: str, **facts: Any) -> None:
    """Print a result: ``text`` for people, or ``facts`` as one JSON object."""
    if running.prints_json():
        typer.echo(json.dumps(facts))
    else:
        say(text)


def tell_beside(text: str) -> None:
    """Print a text that goes along with a result.

    JSON stays the only value on standard output.
    """
    say(text, err=running.prints_json())


class _Rows:
    """A table that is printed while its rows come.

    The first rows decide which columns are there and how wide they are.  A later row whose cell is wider is printed
    whole, and only that row is out of line.
    """

    _DECIDE = 500

    def __init__(self, columns: Columns, *, wide: bool) -> None:
        self._columns, self._console = columns, _console()
        # Whoever reads a pipe wants all of it, and it has no width.
        self._width = None if wide or not sys.stdout.isatty() else self._console.width
        self._first: list[Item] = []
        self._names: list[str] | None = None
        self._widths: list[int] = []

    def add(self, item: Item) -> None:
        if self._names is None:
            self._first.append(item)
            if len(self._first) == self._DECIDE:
                self._decide()
        else:
            self._row(self._names, item)

    def end(self) -> None:
        if self._names is None and not self._first:
            say(nothing_found())
        elif self._names is None:
            self._decide()

    def _decide(self) -> None:
        every = self._columns.every
        widths = {
            name: max(cell_len(name), *(_cell(name, item.get(name)).cell_len for item in self._first)) for name in every
        }
        names = every if self._width is None else self._columns.within(self._width, widths)
        self._names, self._widths = names, [widths[name] for name in names]
        _print(self._console, [Text(name, "bold") for name in names], self._widths)
        for item in self._first:
            self._row(names, item)
        if len(names) < len(every) and sys.stderr.isatty():
            say(f"Left out: {', '.join(name for name in every if name not in names)}; --wide shows them.", err=True)

    def _row(self, names: Sequence[str], item: Item) -> None:
        _print(self._console, [_cell(name, item.get(name)) for name in names], self._widths)


def _as_array(items: Iterable[Item]) -> None:
    """An item a line, so that a long list needs no memory."""
    before = "["
    for item in items:
        typer.echo(before + json.dumps(item), nl=False)
        before = ",\n "
    typer.echo("[]" if before == "[" else "]")


def nothing_found() -> str:
    """What to say of an empty list: by which filters it is empty."""
    filters = running.filters()
    return f"Nothing found for {' '.join(filters)}." if filters else "Nothing yet."


def terminal_width() -> int:
    """Cells of a line of the terminal."""
    return _console().width


def wrapped(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most ``width`` cells, broken between words only."""
    yield from (line.plain for line in _wrapped(Text(text), width))


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _print(console: Console, cells: Sequence[Text], widths: Sequence[int]) -> None:
    """One line: every cell but the last padded to its width."""
    line = Text()
    for number, cell in enumerate(cells):
        line.append_text(cell)
        if number < len(cells) - 1:
            line.append(" " * (widths[number] - cell.cell_len) + _GAP)
    line.rstrip()
    console.print(line, soft_wrap=True)


def _wrapped(text: Text, width: int | None) -> Iterator[Text]:
    """The text in lines of at most ``width`` cells, broken between words only.

    A longer word is a line of its own.
    """
    line = ""
    for word in text.plain.split(" "):
        if width is not None and line and cell_len(f"{line} {word}") > width:
            yield Text(line, text.style)
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield Text(line, text.style)


def _cell(name: str, value: Any) -> Text:  # noqa: ANN401 - any JSON
    text = shown(_words(value))
    if not text:
        return Text("-", "dim")
    if name in {"state", "status", "health", "decision"}:
        return Text(text, _STATE_COLOURS.get(text, "red" if text in _BAD else ""))
    return Text(text)


def _words(value: Any) -> str:  # noqa: ANN401 - any JSON
    """A JSON value as people read it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_words, value))
        case dict():
            return ", ".join(f"{name}={_words(inner)}" for name, inner in value.items())
        case _:
            return _MOMENT.sub(r"\1 \2Z", str(value)).replace("\n", " ")
