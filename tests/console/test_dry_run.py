"""A dry run on a page says what the API says: allowed or refused, by which grant and rule, and what would fix it."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.support.world import World

CALL = {"workload": "nightly-sync", "organization": "acme-power", "provider": "raptor-comply"}


async def tried(reader: Reader, status: int = 200, **more: str) -> str:
    return await reader.get("/grants/dry-run?" + urlencode({**CALL, "method": "GET", **more}), status)


async def test_a_call_that_passes_names_its_grant_and_rule(admin: Reader, filled: Filled) -> None:
    page = await tried(admin, path="/facilities/7")
    assert '<span class="state good">allowed</span>' in page
    assert f"/console/grants/{filled.grant}" in page
    assert "<dt>Rule</dt><dd><code>GET" in page
    # and what was asked is still there, to be asked with a change
    assert 'value="/facilities/7"' in page


async def test_a_refusal_says_why_and_what_would_let_the_call_through(admin: Reader, filled: Filled) -> None:
    page = await tried(admin, method="DELETE", path="/facilities/7")
    assert '<span class="state bad">refused</span>' in page
    assert "<code>rule_refused</code>" in page
    assert "Give a grant with a rule for it" in page
    # given a grant that waits
    page = await tried(admin, workload="monthly-report", organization="birch-grid")
    assert "<code>grant_waiting</code>" in page
    assert f"broker grant approve {filled.waiting}" in page


async def test_nothing_of_a_dry_run_is_recorded(admin: Reader, filled: Filled) -> None:
    before = len(await filled.world.events())
    for method in ("GET", "DELETE"):
        await tried(admin, method=method, path="/facilities")
    assert {each["kind"] for each in (await filled.world.events())[before:]} == {"audit.read"}  # the test's own


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"path": "facilities"}, 422, "path: write a path such as /facilities"),
        ({"method": "GRAB"}, 422, "method: write a method such as GET"),
        ({"organization": "nobody"}, 404, "There is no such organization for you"),
        ({"workload": "no-such"}, 404, "There is no such workload for you"),
        ({"implicit": "perhaps"}, 422, "implicit: "),
    ],
)
async def test_what_can_t_be_tried_is_refused_with_what_was_written(
    admin: Reader, filled: Filled, wrong: dict[str, str], status: int, says: str
) -> None:
    page = await tried(admin, status, **{"purpose": "audits", **wrong})
    assert says in page
    assert 'role="alert"' in page
    assert 'value="audits"' in page


async def test_the_pages_of_a_grant_a_job_and_a_customer_lead_there_with_what_they_know(
    admin: Reader, filled: Filled
) -> None:
    for path, field in (
        (f"/grants/{filled.grant}", 'value="nightly-sync"'),
        (f"/jobs/{filled.job.id}", 'value="nightly-sync"'),
        ("/organizations/acme-power", 'value="acme-power"'),
    ):
        page = await admin.get(path)
        link = next(part for part in page.split('"') if part.startswith("/console/grants/dry-run?"))
        form = await admin.get(link.removeprefix("/console").replace("&amp;", "&"))
        assert field in form
        assert 'id="answer"' not in form


async def test_everybody_tries_within_their_own_customers(world: World, filled: Filled) -> None:
    few = Reader(world, await world.operator("eve", "security", organizations=["birch-grid"]))
    await tried(few, 404)
    assert "<code>" in await tried(few, organization="birch-grid", path="/facilities")
