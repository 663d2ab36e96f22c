"""A broker with something on every page: customers, keys in every state, jobs, leases, refusals, an incident."""

from __future__ import annotations

from dataclasses import dataclass

from broker.formats.ids import CredentialId, IntakeId
from broker.leases import use_days
from tests.support.world import Job, World


@dataclass
class Filled:
    """What is there, by what tests ask for."""

    world: World
    key: CredentialId
    failing: CredentialId
    exposed: CredentialId
    exposure: str
    job: Job
    lease: dict[str, object]
    grant: str
    other: str
    waiting: str
    open_request: IntakeId
    secret: str
    event: str
    review: str
    person: str
    machine: str
    webhook: str


async def fill(world: World) -> Filled:
    """Make it, over the API."""
    key, failing, exposed = [await world.key_for(slug) for slug in ("acme-power", "birch-grid", "cedar-energy")]
    sync, report = await world.job("nightly-sync"), await world.job("monthly-report")
    grant = await world.grant(sync, "acme-power", "birch-grid", "cedar-energy", presets=["read-only"])
    other = await world.grant(report, "acme-power", rate={"uses": 100, "seconds": 60})
    for day in range(5):
        lease = await sync.lease("acme-power", purpose="nightly synchronisation of facilities")
        for _ in range(1 + day * 3 % 5):
            await world.proxied(lease, "/facilities")
        world.clock.forward(hours=24)
    waiting = await world.grant(report, "birch-grid", modes=("reveal",))
    lease = await sync.lease("acme-power", purpose="nightly synchronisation of facilities")
    for _ in range(5):
        await world.proxied(lease, "/facilities")
    await world.proxied(lease, "/facilities", "DELETE")
    await report.ask("cedar-energy")
    broken = await sync.lease("birch-grid", purpose="nightly synchronisation of facilities")
    world.revoke_upstream(world.upstream_keys["birch-grid"])
    await world.noticed(broken, failing, 1)
    leaked = {"found_by": "a customer's auditor", "where": "a public repository", "note": "in a CI log"}
    reported = await world.call("POST", f"/v1/credentials/{exposed}/exposure", json=leaked)
    await world.organization("dune-solar")
    await world.request_key("dune-solar", hours=1)
    await world.work(hours=2)
    open_request, secret = await world.request_key("dune-solar", label="second", purpose="nightly synchronisation")
    review, person, machine = await _people(world, grant)
    lease = await sync.lease("acme-power", purpose="nightly synchronisation of facilities")
    await use_days.duty(world.services.parts.db).do(1)
    hook = {"url": "https://siem.gridwise.example/keybroker", "kinds": ["key_exposed", "key_failing"]}
    webhook = await world.call("POST", "/v1/webhooks", status=201, json=hook)
    return Filled(
        world,
        key,
        failing,
        exposed,
        reported["exposure"]["id"],
        sync,
        lease["lease"],
        grant,
        other,
        waiting,
        open_request,
        secret,
        (await world.events(kind="lease.denied"))[0]["core"]["id"],
        review,
        person,
        machine,
        webhook["webhook"]["id"],
    )


async def _people(world: World, grant: str) -> tuple[str, str, str]:
    """Accounts of several kinds, and reviews of a grant and of one of them: ids of a review, a person and a machine."""
    mira = await world.operator("mira", "security", organizations=["acme-power", "birch-grid"])
    person = (await world.call("GET", "/v1/operators/me", as_=mira))["id"]
    wanted = {"name": "report-mailer", "roles": ["operator"], "days": 30}
    machine = (await world.call("POST", "/v1/operator-tokens", status=201, json=wanted))["operator"]["id"]
    await world.call("POST", "/v1/operators", status=201, json={"name": "cleo", "roles": ["admin"]})
    await world.call("POST", "/v1/reviews", json={"subject": person})
    review = await world.call("POST", "/v1/reviews", json={"subject": grant})
    return review["id"], person, machine


def pages(filled: Filled) -> list[str]:
    """Every page there is, by an address that has something to show."""
    key, grant = f"/keys/{filled.key}", f"/grants/{filled.grant}"
    return [
        "",
        "/organizations",
        "/organizations?name=power&state=",
        "/organizations/new",
        "/organizations/acme-power",
        "/organizations/acme-power/revoke",
        "/keys",
        "/keys?only=failing",
        "/keys?only=overdue",
        key,
        f"{key}/rotate",
        f"{key}/expose",
        f"{key}/revoke",
        f"{key}/versions/1/revoke",
        f"{key}/versions/1/activate",
        f"/keys/{filled.exposed}/versions/1/destroy",
        f"/keys/{filled.exposed}",
        "/requests",
        "/requests?state=expired",
        "/requests/new?organization=acme-power",
        f"/requests/{filled.open_request}",
        f"/requests/{filled.open_request}/remind",
        f"/requests/{filled.open_request}/cancel",
        "/jobs",
        "/jobs/new",
        f"/jobs/{filled.job.id}",
        f"/jobs/{filled.job.id}/revoke",
        "/grants",
        "/grants?organization=acme-power&workload=nightly-sync",
        "/grants/new?workload=nightly-sync&organizations=acme-power",
        "/grants/dry-run?workload=nightly-sync&organization=acme-power",
        "/grants/dry-run?workload=nightly-sync&organization=acme-power&provider=raptor-comply&method=GET&path=/facilities",
        "/grants/dry-run?workload=monthly-report&organization=birch-grid&provider=raptor-comply&method=DELETE&path=/a",
        grant,
        f"{grant}/tighten?days=30",
        f"/grants/{filled.other}/tighten",
        f"{grant}/revoke",
        f"/grants/{filled.waiting}",
        "/leases",
        "/leases?state=",
        f"/leases/{filled.lease['id']}",
        f"/leases/{filled.lease['id']}/cut",
        "/incidents",
        "/incidents?state=open",
        f"/incidents/{filled.exposure}",
        f"/incidents/{filled.exposure}/timeline",
        "/reviews",
        "/reviews?state=scheduled&organization=acme-power",
        "/reviews?state=decided",
        "/reviews/new",
        f"/reviews/{filled.review}",
        f"/reviews/{filled.review}/decide?decision=keep",
        f"/reviews/{filled.review}/decide?decision=tighten",
        f"/reviews/{filled.review}/decide?decision=revoke",
        "/accounts",
        "/accounts?name=m&state=active",
        "/accounts/new",
        "/accounts/token",
        f"/accounts/{filled.person}",
        f"/accounts/{filled.person}/link",
        f"/accounts/{filled.person}/revoke",
        f"/accounts/{filled.person}/sessions/end",
        f"/accounts/{filled.machine}",
        f"/accounts/{filled.machine}/revoke",
        "/audit",
        "/audit?organization=acme-power&kind=lease.*&decision=&since=2020-01-01&until=",
        f"/audit/{filled.event}",
        "/audit/export",
        "/audit/export?organization=acme-power&kind=lease.*&decision=&since=2020-01-01&until=&after=3",
        "/settings",
        "/settings/work",
        "/settings/webhooks/new",
        f"/settings/webhooks/{filled.webhook}",
        f"/settings/webhooks/{filled.webhook}/rotate-secret",
        f"/settings/webhooks/{filled.webhook}/revoke",
    ]
