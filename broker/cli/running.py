"""The command that runs: whether it prints JSON, and what it was asked to leave out."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar

import typer

_running: ContextVar[typer.Context | None] = ContextVar("command", default=None)
# How a list is printed is no filter.
_FORM = frozenset({"as_json", "_as_json", "wide", "limit", "every", "follow", "proxy", "identity", "profile"})


def begin(context: typer.Context, as_json: bool) -> bool:
    """Remember the command.

    It is the callback of ``--json``, which is read before every other option.
    """
    _running.set(context)
    context.meta["json"] = as_json
    return as_json


def prints_json() -> bool:
    """Whether the command was asked for JSON."""
    context = _running.get()
    return context is not None and bool(context.meta.get("json"))


def limit() -> int | None:
    """How many items the command's list was asked for."""
    context = _running.get()
    return None if context is None else context.params.get("limit")


def filters() -> list[str]:
    """The options that narrow the command's list, as they were given."""
    context = _running.get()
    return list(_given(context)) if context is not None else []


def _given(context: typer.Context) -> Iterator[str]:
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name not in _FORM and value not in (None, "", (), [], parameter.default):
            yield parameter.opts[0] if value is True else f"{parameter.opts[0]} {value}"
