"""The ``broker`` command: for operators, jobs and whoever runs the server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import typer

from broker.cli import (
    audit,
    grant,
    incident,
    key,
    leak,
    lease,
    notice,
    operator,
    org,
    provider,
    rotation,
    webhook,
    workload,
)
from broker.cli import exec as exec_
from broker.cli import scan as scan_

# The imports of these take a second, and the other commands need not wait for it.
_SERVER_COMMANDS = frozenset({"serve", "worker", "migrate", "doctor", "demo", "keystore", "restored"})


def build(words: Sequence[str]) -> typer.Typer:
    """The command, with those subcommands that its arguments ``words`` can mean.

    If the arguments ask for help, every subcommand is there.
    """
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Keybroker: short-lived, audited access to the API keys that customers share.",
    )
    app.add_typer(operator.app, name="operator")
    app.command("login")(operator.login)
    app.command("exec", context_settings=exec_.SETTINGS)(exec_.run)
    app.command("scan")(scan_.run)
    for name, group in (
        ("org", org.app),
        ("key", key.app),
        ("rotation", rotation.app),
        ("incident", incident.app),
        ("leak", leak.app),
        ("workload", workload.app),
        ("grant", grant.app),
        ("lease", lease.app),
        ("audit", audit.app),
        ("notice", notice.app),
        ("webhook", webhook.app),
        ("provider", provider.app),
    ):
        app.add_typer(group, name=name)
    # A job installs the package without the server's parts. The commands that need these parts are then absent.
    asked = not words or words[0].startswith("-") or words[0] in _SERVER_COMMANDS
    if asked and find_spec("fastapi") is not None:
        for part in ("server", "keystore", "restored"):
            import_module(f"broker.cli.{part}").register(app)
    return app


def main() -> None:
    """The entry point."""
    build(sys.argv[1:])()
