"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from broker.cli import account


def _choose(name: str | None) -> None:
    try:
        account.choose(name or "")
    except account.AccountUnusable as error:
        raise typer.BadParameter(str(error).partition(": ")[2]) from None


def _choose_again(name: str | None) -> None:
    if name:
        _choose(name)


def _profile(callback: Callable[[str | None], None]) -> Any:  # noqa: ANN401 - what Typer's own says
    about = "Whose account to use; `broker profile list` shows them."
    return typer.Option("--profile", metavar="NAME", help=about, callback=callback, expose_value=False)


# Before the command. There it is read first, so nothing is left of what another command in this process was told.
Profile = Annotated[str | None, _profile(_choose)]
# After it.
ProfileHere = Annotated[str | None, _profile(_choose_again)]
