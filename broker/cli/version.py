"""``broker version``."""

from __future__ import annotations

import typer

from broker.cli.output import AsJson, tell


def version() -> str:
    """The version of this program, as it was installed."""
    from importlib import metadata  # noqa: PLC0415 - it is seldom asked for

    try:
        return metadata.version("keybroker")
    except metadata.PackageNotFoundError:  # run from its sources
        return "unknown"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("version")(run)


def run(_as_json: AsJson = False) -> None:
    """The version of this program."""
    tell(f"keybroker {version()}", version=version())
