"""Beside the id of an account or a job stands whose it is, as far as who looks may know."""

from __future__ import annotations

import re

from broker.web.console.people import ERASED
from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.support.world import World


async def me(reader: Reader) -> str:
    """The id of a reader's account."""
    return str((await reader.world.call("GET", "/v1/operators/me", as_=reader.who))["id"])


def made_by(page: str) -> str:
    """What a grant's page says of who made it."""
    return re.sub(r"<[^>]+>", "", re.findall(r"<dt>Made by</dt><dd>(.*?), ", page)[0])


async def test_who_made_a_grant_reported_a_key_or_used_it_is_named(admin: Reader, filled: Filled) -> None:
    mine = await me(admin)
    assert made_by(await admin.get(f"/grants/{filled.grant}")) == f"ada {mine}"
    incident = f"/incidents/{filled.exposure}"
    for path in (incident, f"{incident}/timeline"):
        assert re.search(rf'by ada <code class="quiet">{mine}</code>', await admin.get(path))
    # given a key that a job used before it was reported
    fields = {"found_by": "security", "where": "a log", "since": "2020-01-01"}
    await admin.post(f"/keys/{filled.key}/expose", 200, **fields)
    (other,) = await filled.world.items("/v1/exposures", organization="acme-power")
    timeline = await admin.get(f"/incidents/{other['id']}/timeline")
    assert f'nightly-sync <code class="quiet">{filled.job.id}</code>' in timeline


async def test_who_made_what_is_reviewed_or_an_account_is_named(admin: Reader, filled: Filled) -> None:
    mine = await me(admin)
    for path in (f"/reviews/{filled.review}", f"/accounts/{filled.person}"):
        assert f'ada <code class="quiet">{mine}</code>' in await admin.get(path)


async def test_an_event_names_its_customer_and_its_job(admin: Reader, filled: Filled) -> None:
    customer = (await filled.world.call("GET", "/v1/organizations/acme-power"))["id"]
    page = await admin.get("/audit?kind=lease.issued&organization=acme-power")
    assert f'<a href="/console/organizations/{customer}">acme-power</a>' in page
    assert f'<a href="/console/jobs/{filled.job.id}">nightly-sync</a>' in page
    (event, *_) = await filled.world.events(kind="lease.issued", organization="acme-power")
    page = await admin.get(f"/audit/{event['core']['id']}")
    assert f'acme-power</a> <code class="quiet">{customer}</code>' in page
    assert "<dt>By</dt><dd>job nightly-sync" in page


async def test_who_was_erased_is_shown_as_erased(admin: Reader, world: World, filled: Filled) -> None:
    # given a grant of somebody who then left and was erased
    olga = Reader(world, await world.operator("olga", "operator"))
    hers = await me(olga)
    fields = {"workload": "nightly-sync", "organizations": "dune-solar", "provider": "raptor-comply", "modes": "use"}
    made = await olga.post("/grants/new", 303, **fields)
    path = made.headers["location"].removeprefix("/console")
    assert made_by(await admin.get(path)) == f"olga {hers}"
    await world.call("POST", f"/v1/operators/{hers}/revoke")
    await world.call("POST", f"/v1/operators/{hers}/erase")
    # then no page has the name
    assert made_by(await admin.get(path)) == f"{ERASED} {hers}"
    (event,) = await world.events(kind="grant.created", organization="dune-solar")
    for page in (await admin.get(f"/audit?operator={hers}"), await admin.get(f"/audit/{event['core']['id']}")):
        assert ERASED in page
        assert "olga" not in page


async def test_a_limited_account_is_told_the_names_within_its_limits_alone(
    admin: Reader, world: World, filled: Filled
) -> None:
    limits = ["birch-grid"]
    few, colleague = [
        Reader(world, await world.operator(name, "operator", organizations=limits)) for name in ("eve", "finn")
    ]
    fields = {"workload": "nightly-sync", "organizations": "birch-grid", "provider": "raptor-comply", "modes": "use"}
    made = await colleague.post("/grants/new", 303, **fields)
    theirs = await few.get(made.headers["location"].removeprefix("/console"))
    assert made_by(theirs) == f"finn {await me(colleague)}"
    # ada, who has no limits, is nobody's business here
    assert made_by(await few.get(f"/grants/{filled.waiting}")) == await me(admin)
