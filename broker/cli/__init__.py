"""The ``broker`` command: for operators, jobs and whoever runs the server."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.failing import EXIT_STATUSES
from broker.cli.lazily import Entry, Lazily
from broker.cli.options import Profile
from broker.cli.plainly import plainly
from broker.cli.version import version

_KEYS = "Customers and their keys"
_JOBS = "Jobs"
_WATCH = "What happened"
_ACCOUNTS = "Accounts"


def _asking(module: str, about: str, panel: str) -> Entry:
    return Entry(f"broker.cli.{module}", about, panel, account=True)


def _hosting(about: str) -> Entry:
    return Entry("broker.cli.hosting", about, "The server", server=True)


TABLE = {
    "org": _asking("org", "Customer organizations.", _KEYS),
    "key": _asking("key", "Customers' keys.", _KEYS),
    "rotation": _asking("rotation", "Keys that are being replaced.", _KEYS),
    "incident": _asking("incident", "Keys that were exposed.", _KEYS),
    "leak": _asking("leak", "Keys that were found outside.", _KEYS),
    "scan": _asking("scan", "Find our keys where they should not be.", _KEYS),
    "provider": _asking("provider", "Upstreams, declared in TOML.", _KEYS),
    "workload": _asking("workload", "Jobs and their identities.", _JOBS),
    "issuer": _asking("issuer", "Who signs the tokens that jobs bring, declared in TOML.", _JOBS),
    "trust": _asking("trust", "Which platforms' tokens are a job's.", _JOBS),
    "grant": _asking("grant", "Who may use what.", _JOBS),
    "review": _asking("review", "Whether grants and accounts are still needed.", _JOBS),
    "lease": _asking("lease", "Short-lived access.", _JOBS),
    "exec": Entry("broker.cli.exec", "Run a command with leased access in its environment.", _JOBS),
    "token": Entry("broker.cli.token", "Print a job's access token, for programs in other languages.", _JOBS),
    "audit": _asking("audit", "What happened.", _WATCH),
    "notice": _asking("notice", "What operators were told.", _WATCH),
    "webhook": _asking("webhook", "Where notices are posted.", _WATCH),
    "login": _asking("signing_in", "Sign in, in the browser.", _ACCOUNTS),
    "whoami": _asking("session", "Who you are to which broker", _ACCOUNTS),
    "logout": _asking("session", "Sign out, and remove your stored account from this machine.", _ACCOUNTS),
    "session": _asking("sessions", "Where you are signed in.", _ACCOUNTS),
    "passkey": _asking("passkey", "What people sign in with.", _ACCOUNTS),
    "profile": Entry("broker.cli.profile", "Accounts at several brokers.", _ACCOUNTS),
    "operator": _asking("operator", "People's accounts, and machines'.", _ACCOUNTS),
    "version": Entry("broker.cli.version", "The version of this program.", _ACCOUNTS),
    "serve": _hosting("Run the broker."),
    "worker": _hosting("Do the periodic work in a process of its own."),
    "migrate": _hosting("Bring the database to this version's schema."),
    "doctor": _hosting("Check settings, database, schema, keystore, providers and who answers at the address"),
    "keystore": _hosting("Master keys, and where they or the keys themselves are kept."),
    "record": _hosting("Archives of the record: signed files, a month each."),
    "witness": _hosting("A witness of a broker's log, on a machine that isn't the vendor's."),
    "restored": _hosting("Go on with a database that was restored from a backup."),
    "sandbox": _hosting("Serve a stand-in for the upstream Raptor Comply, to try the broker with."),
    "demo": _hosting("Play the whole story against the bundled sandbox, then keep serving."),
}


class _Broker(Lazily):
    table = TABLE


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"keybroker {version()}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", is_eager=True, callback=_tell_version, expose_value=False
    ),
]


def build() -> typer.Typer:
    """The command; each subcommand is imported when it is looked up."""
    app = typer.Typer(
        cls=_Broker,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        help="Keybroker: short-lived, audited access to the API keys that customers share.",
        epilog=EXIT_STATUSES,
    )
    app.callback()(_everywhere)
    return app


def _everywhere(profile: Profile = None, version: Version = False) -> None:
    """Keybroker: short-lived, audited access to the API keys that customers share."""


def main() -> None:
    """The entry point."""
    with plainly():
        build()(prog_name="broker")
