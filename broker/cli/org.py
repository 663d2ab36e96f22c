"""``broker org``: customer organizations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from broker.cli.api import call, pages
from broker.cli.asking import Yes, insist, insist_on_ending
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show

app = typer.Typer(no_args_is_help=True, help="Customer organizations.")

Organization = Annotated[str, typer.Argument(help="Slug or id.")]


@app.command()
def add(
    slug: Annotated[str, typer.Argument(help="Small letters, digits and hyphens, such as acme-power.")],
    name: Annotated[str | None, typer.Option(help="As the customer writes it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a customer organization; the slug never changes."""
    show(call("POST", "/v1/organizations", json={"slug": slug, "name": name or slug}), as_json)


@app.command("list")
@prints_list(Columns("slug name state id", "rotation_days created_at"))
def list_(
    state: Annotated[str | None, typer.Option(help="active or revoked.")] = None,
    name: Annotated[str | None, typer.Option(help="Part of the slug or the name.")] = None,
) -> Iterable[Item]:
    """The organizations that you may see."""
    return pages("/v1/organizations", state=state, name=name)


@app.command("show")
def show_(organization: Organization, as_json: AsJson = False) -> None:
    """One organization."""
    show(call("GET", f"/v1/organizations/{organization}"), as_json)


@app.command()
def policy(
    organization: Organization,
    rotation_days: Annotated[int | None, typer.Option(help="Left out, each provider's own interval.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decide how often the organization's keys are to be replaced."""
    show(call("POST", f"/v1/organizations/{organization}/policy", json={"rotation_days": rotation_days}), as_json)


@app.command()
def rename(
    organization: Annotated[str, typer.Argument(help="Its slug or id.")],
    name: Annotated[str, typer.Argument(help="As the customer writes it.")],
    as_json: AsJson = False,
) -> None:
    """Correct an organization's name; the slug stays."""
    show(call("POST", f"/v1/organizations/{organization}/name", json={"name": name}), as_json)


@app.command()
def revoke(
    organization: Organization,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cut an organization and its credentials off, for good: no lease, use or submission under it from now on."""
    path = f"/v1/organizations/{organization}"
    insist_on_ending(f"Revoking the organization {organization}", path, yes=yes)
    show(call("POST", f"{path}/revoke", json={"reason": reason}), as_json)


@app.command()
def erase(organization: Organization, yes: Yes = False, as_json: AsJson = False) -> None:
    """Erase a revoked organization, for good: its name, its people, who did what for it.  Every proof stays valid."""
    ends = (
        "Its name, its people's addresses and what was written of it are deleted, and nobody reads any more who did "
        "what for it, in archives neither."
    )
    insist(f"Erasing the organization {organization}", ends, yes=yes)
    show(call("POST", f"/v1/organizations/{organization}/erase"), as_json)
