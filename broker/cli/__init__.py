"""The ``broker`` command: for operators, jobs and whoever runs the server."""

from __future__ import annotations

import typer

from broker.cli.lazily import Entry, Lazily
from broker.cli.plainly import plainly

_KEYS = "Customers and their keys"
_JOBS = "Jobs"
_WATCH = "What happened"
_ACCOUNTS = "Accounts"


def _hosting(about: str) -> Entry:
    return Entry("broker.cli.hosting", about, "The server", server=True)


TABLE = {
    "org": Entry("broker.cli.org", "Customer organizations.", _KEYS),
    "key": Entry("broker.cli.key", "Customers' keys.", _KEYS),
    "rotation": Entry("broker.cli.rotation", "Keys that are being replaced.", _KEYS),
    "incident": Entry("broker.cli.incident", "Keys that were exposed.", _KEYS),
    "leak": Entry("broker.cli.leak", "Keys that were found outside.", _KEYS),
    "scan": Entry("broker.cli.scan", "Find our keys where they should not be.", _KEYS),
    "provider": Entry("broker.cli.provider", "Upstreams, declared in TOML.", _KEYS),
    "workload": Entry("broker.cli.workload", "Jobs and their identities.", _JOBS),
    "grant": Entry("broker.cli.grant", "Who may use what.", _JOBS),
    "lease": Entry("broker.cli.lease", "Short-lived access.", _JOBS),
    "exec": Entry("broker.cli.exec", "Run a command with leased access in its environment.", _JOBS),
    "token": Entry("broker.cli.token", "Print a job's access token, for programs in other languages.", _JOBS),
    "audit": Entry("broker.cli.audit", "What happened.", _WATCH),
    "notice": Entry("broker.cli.notice", "What operators were told.", _WATCH),
    "webhook": Entry("broker.cli.webhook", "Where notices are posted.", _WATCH),
    "login": Entry("broker.cli.session", "Keep the address and an operator's token for later commands.", _ACCOUNTS),
    "operator": Entry("broker.cli.operator", "People's accounts.", _ACCOUNTS),
    "serve": _hosting("Run the broker."),
    "worker": _hosting("Do the periodic work in a process of its own."),
    "migrate": _hosting("Bring the database to this version's schema."),
    "doctor": _hosting("Check settings, database, schema, keystore and providers."),
    "keystore": _hosting("Master keys, and where they or the keys themselves are kept."),
    "restored": _hosting("Go on with a database that was restored from a backup."),
    "sandbox": _hosting("Serve a stand-in for the upstream Raptor Comply, to try the broker with."),
    "demo": _hosting("Play the whole story against the bundled sandbox, then keep serving."),
}


class _Broker(Lazily):
    table = TABLE


def build() -> typer.Typer:
    """The command; each subcommand is imported when it is looked up."""
    app = typer.Typer(
        cls=_Broker,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        help="Keybroker: short-lived, audited access to the API keys that customers share.",
    )
    app.callback()(_everywhere)
    return app


def _everywhere() -> None:
    """Keybroker: short-lived, audited access to the API keys that customers share."""


def main() -> None:
    """The entry point."""
    with plainly():
        build()()
