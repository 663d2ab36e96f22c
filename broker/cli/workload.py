"""``broker workload``: register jobs.  The key pair is made here, on the job's side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.api import broker_url, call, fail, pages
from broker.cli.output import AsJson, listing, show
from broker.client.identity import Identity, generate, public

app = typer.Typer(no_args_is_help=True, help="Jobs and their identities.")


class Algorithm(StrEnum):
    """The algorithm that signs a job's assertions."""

    EDDSA = "EdDSA"
    ES256 = "ES256"
    RS256 = "RS256"


@app.command()
def add(
    name: str,
    key_out: Annotated[
        Path | None, typer.Option(help="Where the identity is written (mode 0600); default NAME.identity.json.")
    ] = None,
    alg: Annotated[Algorithm, typer.Option(help="Signature algorithm.")] = Algorithm.EDDSA,
    as_json: AsJson = False,
) -> None:
    """Make a key pair here, register its public half, and keep the private half in a file for the job."""
    path = key_out or Path(f"{name}.identity.json")
    if path.exists():
        fail(f"{path} exists already; move it away or name another file with --key-out.")
    private = generate(alg.value)
    made = call("POST", "/v1/workloads", json={"name": name, "jwks": public(private)})
    Identity(broker_url(), made["id"], private).write(path)
    show({"id": made["id"], "name": made["name"], "key_ids": made["key_ids"], "identity": str(path)}, as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every job."""
    listing(pages("/v1/workloads"), ["id", "name", "key_ids", "state", "created_at"], as_json)


@app.command()
def revoke(
    workload: str, reason: Annotated[str, typer.Option(help="For the record.")] = "", as_json: AsJson = False
) -> None:
    """End a job: no token, lease or use by it from now on."""
    show(call("POST", f"/v1/workloads/{workload}/revoke", json={"reason": reason}), as_json)
