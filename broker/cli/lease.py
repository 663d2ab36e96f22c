"""``broker lease``: a job's short-lived access.

``revoke`` and ``list --all`` are an operator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.base import variables
from broker.cli.api import call, pages
from broker.cli.failing import fail
from broker.cli.job import Proxy, as_job, client_of, usable
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, show
from broker.cli.proving import Job, proves_itself

if TYPE_CHECKING:
    from broker.client.client import Client
    from broker.client.leases import IssuedLease

app = typer.Typer(no_args_is_help=True, help="Short-lived access.")

Ttl = Annotated[int | None, typer.Option(help="Seconds; default 300, capped by the grant.")]
Grant = Annotated[str, typer.Option(help="One of several grants; left out, the broadest.")]
LeaseId = Annotated[str, typer.Argument(help="The lease's id, lse_…")]


@app.command()
@proves_itself
def issue(
    _job: Job,
    org: Annotated[str, typer.Option("--org", help="Organization: slug or id.")],
    provider: Annotated[str, typer.Option(help="Provider id.")],
    label: Annotated[str, typer.Option(help="The credential's label.")] = "default",
    mode: Annotated[str, typer.Option(help="use (through the proxy) or reveal (the key itself).")] = "use",
    purpose: Annotated[str, typer.Option(help="What the access is for.")] = "",
    ttl: Ttl = None,
    grant: Grant = "",
    proxy: Proxy = None,
    as_json: AsJson = False,
) -> None:
    """Lease a key; prints the lease's token and proxy address, for `reveal` the key."""
    wanted: dict[str, Any] = {"label": label, "mode": mode, "purpose": purpose, "ttl": ttl, "grant": grant}
    issued = as_job(_job.who(), proxy, lambda job: _of_use(job, job.lease(org, provider, **wanted)))
    if as_json:
        show(issued.answer, as_json)
        return
    told = {name: issued.answer.get(name) for name in ("token", "proxy_url", "expires_at", "last4", "key")}
    given = {name: value for name, value in told.items() if value}
    show({"lease": issued.id, **given}, as_json, alone=("token", "key"))


def _of_use(job: Client, issued: IssuedLease) -> IssuedLease:
    """The lease, if somebody else than this process can use it; ends the command if nobody can."""
    if issued.bound and issued.key is None:
        job.end(issued.id)
        fail(
            "This grant's leases are bound to a key of the process that takes them, so the token alone opens nothing. "
            "Run the program that uses it with `broker exec`, or have it use the Python client.",
            code="bound_lease",
        )
    return issued


def _row(lease: Item) -> Item:
    """A lease as people read it; a job is told no names."""
    return {
        **lease,
        "org": lease.get("organization_slug") or lease["organization"],
        "workload": lease.get("workload_name") or lease["workload"],
    }


@app.command("list")
@prints_list(Columns("org provider state id", "workload mode expires_at label issued_at"), _row)
def list_(
    identity: Annotated[
        Path | None, typer.Option("--identity", envvar=variables.IDENTITY, help="Only this job's, as the job.")
    ] = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organization (as an operator).")] = None,
    workload: Annotated[str | None, typer.Option(help="Only this job's (as an operator).")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's (as an operator).")] = None,
    state: Annotated[str | None, typer.Option(help="active, expired, ended or revoked (as an operator).")] = None,
    proxy: Proxy = None,
) -> Iterable[Item]:
    """Leases, newest first: a job's own, or as an operator those of the organizations you see."""
    if identity:
        return _own(identity, proxy)
    return pages("/v1/leases", organization=org, workload=workload, provider=provider, state=state, order="newest")


def _own(identity: Path, proxy: str | None) -> Iterator[Item]:
    with client_of(usable(identity), proxy) as client:
        for one in client.each_lease(newest=True):
            yield one.answer


@app.command("show")
def show_(lease_id: LeaseId, as_json: AsJson = False) -> None:
    """One lease, as an operator."""
    show(call("GET", f"/v1/leases/{lease_id}"), as_json)


@app.command()
@proves_itself
def renew(_job: Job, lease_id: LeaseId, ttl: Ttl = None, proxy: Proxy = None, as_json: AsJson = False) -> None:
    """Extend a lease."""
    show(as_job(_job.who(), proxy, lambda job: job.renew(lease_id, ttl)).answer, as_json)


@app.command()
@proves_itself
def end(_job: Job, lease_id: LeaseId, proxy: Proxy = None, as_json: AsJson = False) -> None:
    """Give a lease back."""
    show(as_job(_job.who(), proxy, lambda job: job.end(lease_id)).answer, as_json)


@app.command()
def revoke(
    lease_id: LeaseId, reason: Annotated[str, typer.Option(help="For the record.")] = "", as_json: AsJson = False
) -> None:
    """Cut a lease off, as an operator."""
    show(call("POST", f"/v1/leases/{lease_id}/revoke", json={"reason": reason}), as_json)
