"""``broker token``: what opens the broker to a job, for programs in other languages."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.lease import IdentityFile, Proxy, as_job, usable
from broker.cli.output import AsJson, tell
from broker.formats.assertion import ASSERTION_TYPE, SPAN_S


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("token")(run)


def run(
    identity: IdentityFile,
    assertion: Annotated[
        bool, typer.Option("--assertion", help="Sign a client assertion instead; this calls nobody.")
    ] = False,
    proxy: Proxy = None,
    _as_json: AsJson = False,
) -> None:
    """Print a job's access token, for programs in other languages.

    It goes into `Authorization: Bearer …` of POST /v1/leases.  With --assertion, print what POST /oauth/token takes
    for one, once and within a minute (`client_assertion`), for programs that get their tokens themselves.  Either
    stands on a line of its own; --json says when it ends.
    """
    if assertion:
        mine = usable(identity)
        secret = mine.assertion()
        told = {
            "client_assertion": secret,
            "client_assertion_type": ASSERTION_TYPE,
            "token_endpoint": f"{mine.broker}/oauth/token",
            "expires_in": SPAN_S,
        }
    else:
        granted = as_job(identity, proxy, lambda job: job.access_token())
        secret = granted.token
        told = {"access_token": secret, "token_type": "Bearer", "expires_in": granted.expires_in}
    tell(secret, **told)
