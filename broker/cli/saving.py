"""Long answers into a file, or to standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.api import download
from broker.cli.failing import Status, fail

Out = Annotated[Path | None, typer.Option(help="File to write; left out, standard output.")]


def save(path: str, out: Path | None, **params: Any) -> None:
    """Write what the broker answers, byte for byte.

    A file is new, and is no more if the answer breaks off.
    """
    asked = {name: value for name, value in params.items() if value is not None}
    _into(out, lambda take: download(path, take, asked))


def _into(out: Path | None, write: Callable[[Callable[[bytes], object]], None]) -> None:
    """Let ``write`` write a new file, or to standard output."""
    if out is None:
        write(sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return
    try:
        with out.open("xb") as file:
            try:
                write(file.write)
                file.flush()
            except BaseException:
                out.unlink(missing_ok=True)
                raise
    except FileExistsError:
        fail(f"{out} exists already; name another file.", Status.CONFLICT)
    except OSError as error:
        fail(f"{out}: can't be written ({error.strerror}); name another file with --out.")


def keep(out: Path | None, data: bytes) -> None:
    """Write ``data`` as :func:`save` does."""

    def write(take: Callable[[bytes], object]) -> None:
        take(data)

    _into(out, write)
