"""``broker provider``: the upstreams that are declared."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from broker.cli.output import AsJson, listing
from broker.cli.session import fail, pages

app = typer.Typer(no_args_is_help=True, help="Upstreams, declared in TOML.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """The upstreams that the broker knows."""
    listing(pages("/v1/providers"), ["id", "title", "base_url", "placement", "rotation_days"], as_json)


@app.command()
def check(file: Path, as_json: AsJson = False) -> None:
    """Check a provider file; says file, field and mend where it is wrong."""
    # The schema comes with the server's parts, which a job's machine may lack.
    try:
        from broker.providers import catalog  # noqa: PLC0415
    except ImportError:
        fail("Checking provider files needs the server's parts: install keybroker[server].")
    try:
        definition = catalog.check(file)
    except catalog.ProviderInvalid as error:
        if as_json:
            typer.echo(json.dumps({"valid": False, "faults": error.public.splitlines()}))
            raise typer.Exit(1) from None
        fail(error.public)
    typer.echo(json.dumps({"valid": True, "id": definition.id}) if as_json else f"{file}: {definition.title} is valid.")
