"""How far a long command is: on standard error, so that standard output is only the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import Progress

_TOLD_EVERY_S = 10.0


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress: a bar on a terminal, else a line now and then.

    What it yields is told how many are done, and of how many.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what)
        return
    with Progress(console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _lines(what: str) -> Callable[[int, int], None]:
    told_at = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TOLD_EVERY_S:
            told_at = time.monotonic()
            typer.echo(f"{what}: {done} of {total}", err=True)

    return advance
