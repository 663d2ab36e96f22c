"""``broker audit verify``: what a broker showed, held to the log's keys, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.failing import fail
from broker.cli.output import AsJson, say, tell
from broker.cli.running import prints_json

app = typer.Typer(no_args_is_help=True, help="Verify what a broker showed, offline.")

Key = Annotated[
    Path, typer.Option("--key", help="File with the log's keys, as `broker audit log-key` prints them; keep your own.")
]
Skew = Annotated[int, typer.Option(min=0, help="Seconds that an event may be behind those before it.")]


@app.command()
def receipt(
    file: Annotated[Path, typer.Argument(help="What `broker audit receipt` wrote.")],
    key: Key,
    _as_json: AsJson = False,
) -> None:
    """Verify that one event is in the log, and show it."""
    _tell("receipt", [file], key)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="What `broker audit export --org` wrote.")],
    key: Key,
    _as_json: AsJson = False,
) -> None:
    """Verify that a file has all events of an organization in a time."""
    _tell("export", [file], key)


@app.command()
def log(
    file: Annotated[Path, typer.Argument(help="What `broker audit export` wrote.")],
    key: Key,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint that you saved before.")] = None,
    skew: Skew = 600,
    _as_json: AsJson = False,
) -> None:
    """Verify that a file has all of the log, and that it is as it was at a checkpoint that was saved."""
    _tell("log", [file], key, checkpoint, skew)


@app.command()
def consistency(
    saved: Annotated[Path, typer.Argument(help="A checkpoint that you saved before.")],
    file: Annotated[Path, typer.Argument(help="What `broker audit consistency` wrote.")],
    key: Key,
    _as_json: AsJson = False,
) -> None:
    """Verify that the log only grew since a checkpoint that was saved."""
    _tell("consistency", [saved, file], key)


@app.command()
def certificate(
    file: Annotated[Path, typer.Argument(help="What `broker key certificate` wrote.")],
    key: Key,
    _as_json: AsJson = False,
) -> None:
    """Verify that a key is dead: the broker's statement, and the events that it names."""
    _tell("certificate", [file], key)


def _tell(what: str, files: Sequence[Path], key: Path, saved: Path | None = None, skew: int = 0) -> None:
    """Tell what was verified, or end the command with what is wrong."""
    # Help and completion need no cryptography.
    from broker.client import verify  # noqa: PLC0415 - see above

    try:
        text, facts = verify.examined(what, files, key, saved, skew)
    except verify.Refused as refused:
        fail(f"NOT verified: {refused}.")
    except UnicodeDecodeError:
        fail("NOT verified: one of the files is no text.")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")
    tell(text, verified=True, **facts)
    if "event" in facts and not prints_json():
        for name, value in facts["event"]["core"].items():
            say(f"  {name}: {value}")
