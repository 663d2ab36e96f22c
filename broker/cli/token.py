"""``broker token``: what opens the broker to a job, for programs in other languages."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.failing import fail_call
from broker.cli.job import Proxy, as_job
from broker.cli.output import AsJson, tell
from broker.cli.proving import Job, proves_itself
from broker.client.errors import CallFailed
from broker.formats.assertion import SPAN_S


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("token")(run)


@proves_itself
def run(
    _job: Job,
    assertion: Annotated[
        bool, typer.Option("--assertion", help="Sign a client assertion instead; this calls no broker.")
    ] = False,
    proxy: Proxy = None,
    as_json: AsJson = False,  # noqa: ARG001 - it is asked where something is told
) -> None:
    """Print a job's access token, for programs in other languages.

    It goes into `Authorization: Bearer …` of POST /v1/leases.  With --assertion, print what POST /oauth/token takes
    for one, once and within a minute (`client_assertion`), for programs that get their tokens themselves.  For a job
    without a key that is its platform's token, which is sent with its id (`client_id`).  Either stands on a line of its
    own; --json says when it ends.
    """
    if assertion:
        mine = _job.who()
        try:
            proof = mine.proof()
        except CallFailed as error:
            fail_call(error)
        secret = proof["client_assertion"]
        told: dict[str, str | int] = {**proof, "token_endpoint": f"{mine.broker}/oauth/token"}
        if "client_id" not in proof:  # the job signed it itself
            told["expires_in"] = SPAN_S
    else:
        granted = as_job(_job.who(), proxy, lambda job: job.access_token())
        secret = granted.token
        told = {"access_token": secret, "token_type": "Bearer", "expires_in": granted.expires_in}
    tell(secret, **told)
