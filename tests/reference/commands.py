"""The page of commands: what ``--help`` says, of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from broker.cli import build
from tests.reference.markdown import cell, code, page, table

# Typer's commands are those of a copy of click that it doesn't show.
Command = Any

ABOUT = """\
`broker COMMAND --help` says the same. Options that are marked *required* have no default. A variable in brackets stands
for the option if it is left out. What commands read from the environment besides is in [settings](settings.md)."""


def made() -> str:
    """The page."""
    parts = [_text(*found) for found in walked()]
    return page("Commands", ABOUT, *parts)


def walked() -> Iterator[tuple[str, Command, Any]]:
    """Every command with its name and its context, groups before what is in them."""
    program: Command = get_command(build())
    yield from _below("broker", program, program.make_context("broker", [], resilient_parsing=True))


def _below(name: str, command: Command, context: Any) -> Iterator[tuple[str, Command, Any]]:
    if name != "broker":
        yield name, command, context
    # What the group lists is less than a command, as that is imported when it runs.
    for one, inner in getattr(command, "commands", {}).items():
        if inner.hidden:
            continue
        below = inner.make_context(one, [], parent=context, resilient_parsing=True)
        yield from _below(f"{name} {one}", inner, below)


def _text(name: str, command: Command, context: Any) -> str:
    said = " ".join((command.help or "").replace("``", "`").split())
    if hasattr(command, "commands"):
        return f"## {name}\n\n{said}"
    level = "##" if name.count(" ") == 1 else "###"
    usage = " ".join((name, *command.collect_usage_pieces(context)))
    parts = [f"{level} {name}", said, f"```text\n{usage}\n```"]
    records = [one.get_help_record(context) for one in command.get_params(context) if one.name != "help"]
    rows = [(code(cell(left)), right.replace("``", "`")) for left, right in filter(None, records)]
    if rows:
        parts.append(table(("argument or option", "meaning"), rows))
    return "\n\n".join(filter(None, parts))
