"""``broker login``."""

from __future__ import annotations

import typer

from broker.cli.operator import login


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command("login")(login)
