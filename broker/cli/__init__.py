"""The ``broker`` command: for operators, jobs and whoever runs the server."""

from __future__ import annotations

from importlib.util import find_spec

import typer

from broker.cli import audit, grant, key, lease, operator, org, provider, workload

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keybroker: short-lived, audited access to the API keys that customers share.",
)

app.add_typer(operator.app, name="operator")
app.command("login")(operator.login)
app.add_typer(org.app, name="org")
app.add_typer(key.app, name="key")
app.add_typer(workload.app, name="workload")
app.add_typer(grant.app, name="grant")
app.add_typer(lease.app, name="lease")
app.add_typer(audit.app, name="audit")
app.add_typer(provider.app, name="provider")

# A job installs the package without the server's parts; the commands that need them are then absent.
if find_spec("fastapi") is not None:
    from broker.cli.server import register

    register(app)


def main() -> None:
    """The entry point."""
    app()
