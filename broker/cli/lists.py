"""Commands that list: how much they print, and which columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import islice
from typing import Annotated, Any

import typer

from broker.cli.output import AsJson, Columns, Item, Wide, listing, nothing_found, say
from broker.cli.signature import Options, take_options

# A table of more is for a pager or a file, which `--all` fills.
_ROWS = 1_000

_FORM: Options = {
    "limit": (Annotated[int | None, typer.Option(min=1, help=f"At most so many; a table ends after {_ROWS}.")], None),
    "every": (Annotated[bool, typer.Option("--all", help="All of them, however many.")], False),
    "wide": (Wide, False),
    "as_json": (AsJson, False),
}


def prints_list(
    columns: Columns,
    row: Callable[[Item], Item] = lambda item: item,
    *,
    on_terminal: Callable[[Iterable[Item]], bool] | None = None,
) -> Callable[[Callable[..., Iterable[Item]]], Callable[..., None]]:
    """Make a command of a function that returns items.

    It prints them, and takes --limit, --all, --wide and --json.

    Args:
        columns: of the table.
        row: an item as people read it; machines get it as it is.
        on_terminal: prints items there in place of the table, and says whether there were any.
    """

    def decorate(found: Callable[..., Iterable[Item]]) -> Callable[..., None]:
        @wraps(found)
        def command(limit: int | None, every: bool, wide: bool, as_json: bool, **options: Any) -> None:
            items = iter(found(**options))
            if as_json:
                listing(islice(items, limit), columns, as_json)
                return
            at_most = limit or (None if every else _ROWS)
            shown = islice(items, at_most)
            if on_terminal is None or wide or not sys.stdout.isatty():
                listing(map(row, shown), columns, as_json, wide=wide)
            elif not on_terminal(shown):
                say(nothing_found())
            if limit is None and not every and next(items, None) is not None:
                say(f"These are the first {_ROWS}; --all shows all, and filters show fewer.", err=True)

        take_options(command, found, after=_FORM)
        return command

    return decorate
