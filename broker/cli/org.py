"""``broker org``: customer organizations."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.output import AsJson, listing, show

app = typer.Typer(no_args_is_help=True, help="Customer organizations.")


@app.command()
def add(
    slug: str,
    name: Annotated[str | None, typer.Option(help="As the customer writes it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a customer organization; the slug never changes."""
    show(call("POST", "/v1/organizations", json={"slug": slug, "name": name or slug}), as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """The organizations that you may see."""
    listing(pages("/v1/organizations"), ["id", "slug", "name", "state", "created_at"], as_json)


@app.command()
def policy(
    organization: str,
    rotation_days: Annotated[int | None, typer.Option(help="Left out, each provider's own interval.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decide how often the organization's keys are to be replaced."""
    show(call("POST", f"/v1/organizations/{organization}/policy", json={"rotation_days": rotation_days}), as_json)


@app.command()
def revoke(
    organization: str,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    as_json: AsJson = False,
) -> None:
    """Cut an organization and its credentials off, for good: no lease, use or submission under it from now on."""
    show(call("POST", f"/v1/organizations/{organization}/revoke", json={"reason": reason}), as_json)
