"""A group of commands that imports only the one that runs.

Their names and a line of help each are in a table: that is all that ``broker --help`` and a shell's completion need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer._click.exceptions import UsageError
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from broker.cli.completing import complete
from broker.cli.discreet import discreetly, holds_a_secret
from broker.cli.failing import Status, fail_in_json
from broker.cli.options import ProfileHere

if TYPE_CHECKING:
    from typer._click import Command, Context

_WORDS = "broker.words"
_REFUSAL = (
    "One of the arguments looks like a key or a token. Nothing was done with it, and it is not repeated here. Secrets "
    "are taken from standard input, never from an argument: this one is in the shell's history now."
)


class Entry(NamedTuple):
    """A command before it is imported.

    ``module`` offers it, by ``register(app)`` or as the group ``app``.  ``about`` is the first sentence of its help.
    ``panel`` is the heading that it stands under.  ``account`` if it calls a broker with an operator's account.
    ``server`` if it needs the server's parts.
    """

    module: str
    about: str
    panel: str
    account: bool = False
    server: bool = False


class Lazily(TyperGroup):
    """The group.  A subclass names its ``table``."""

    table: Mapping[str, Entry]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported(self.table)
        for parameter in self.params:
            complete(parameter, "")

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Context:
        """Read the options before the command.

        Raises:
            UsageError: they are wrong; its text has nothing that may be a secret.
        """
        words = list(args)
        with discreetly(words):
            made = super().make_context(info_name, args, *rest, **extra)
        made.meta[_WORDS] = words
        return made

    def invoke(self, ctx: Context) -> object:
        """Run the command.

        Raises:
            UsageError: its options are wrong, as :meth:`make_context`; a program is told so in JSON instead.
        """
        words = ctx.meta[_WORDS]
        try:
            with discreetly(words):
                return super().invoke(ctx)
        except UsageError as error:
            if "--json" not in words:
                raise
            fail_in_json(error.format_message(), Status.USAGE, "usage")

    def list_commands(self, _ctx: Context) -> list[str]:
        """The commands' names, in the order of the table."""
        return list(self.table)

    def get_command(self, _ctx: Context, cmd_name: str) -> Command | None:
        """What help and completion show of a command."""
        entry = self.table.get(cmd_name)
        return entry and TyperCommand(cmd_name, help=entry.about, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """The command that runs, imported.

        Raises:
            UsageError: there is none of that name, or not here.
        """
        name, found, rest = super().resolve_command(ctx, args)
        if name is None or found is None:
            return name, found, rest
        # A job installs the package without the server's parts.
        if not ctx.resilient_parsing and holds_a_secret(_for_us(name, rest)):
            ctx.fail(_REFUSAL)
        if self.table[name].server and find_spec("fastapi") is None:
            ctx.fail(f"`broker {name}` needs the server's parts: install keybroker[server].")
        return name, self.commands[name], rest


def _for_us(name: str, words: list[str]) -> list[str]:
    """Those of a command's arguments that may hold no secret."""
    if name == "exec":  # they are another program's
        return []
    if name == "scan":  # it looks for keys in names of files too, and shows none
        return [word for word in words if not os.path.lexists(word)]
    return words


class _Imported(MutableMapping[str, "Command"]):
    """The commands by name; each is imported when it is looked up."""

    def __init__(self, table: Mapping[str, Entry]) -> None:
        self._table = table

    def __getitem__(self, name: str) -> Command:
        return _imported(name, self._table[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __setitem__(self, name: str, command: Command) -> None:
        raise TypeError("commands stand in the table")

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands stand in the table")


@cache
def _imported(name: str, entry: Entry) -> Command:
    app = typer.Typer()
    module = import_module(entry.module)
    if hasattr(module, "register"):
        module.register(app)
    else:
        app.add_typer(module.app, name=name)
    command = get_group(app).commands[name]
    for inner in _each(command):
        if entry.account:
            _take_profile(inner)
        for parameter in inner.params:
            complete(parameter, name)
    return command


def _each(command: Command) -> Iterator[Command]:
    """The command, or those of the group."""
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            yield from _each(inner)
    else:
        yield command


def _take_profile(command: Command) -> None:
    """Let ``--profile`` stand at the end, too: whoever types a command thinks of it last."""

    def like(_profile: ProfileHere = None) -> None:
        """Take what every command takes."""

    app = typer.Typer(add_completion=False)
    app.command()(like)
    command.params += get_command(app).params
