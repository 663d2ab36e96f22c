"""A grant's page tells what it was really used for, and narrows it to that once it was shown what stops."""

from __future__ import annotations

import html
import re

import pytest

from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.support.world import World


def rules_of(page: str) -> str:
    """The rules that the page would adopt."""
    return html.unescape(re.findall(r'name="rules" value="([^"]*)"', page)[0])


def card(page: str, name: str) -> str:
    """A card of the page, by the id of its heading."""
    return page.partition(f'id="{name}"')[2].partition("</section>")[0]


async def test_a_grant_is_narrowed_to_what_was_shown_once_it_was_told_what_stops(admin: Reader, filled: Filled) -> None:
    path = f"/grants/{filled.grant}/tighten"
    # given the grant's page, which leads there
    assert f"/console{path}?days=90" in await admin.get(f"/grants/{filled.grant}")
    page = await admin.get(f"{path}?days=30")
    # then it shows the rules now and afterwards, and what stops
    uses = len(await filled.world.events(kind="use.completed", organization="acme-power"))
    assert f"<dt>Succeeded</dt><dd>{uses} uses</dd>" in page
    assert "0 uses that succeeded" in page
    before, after, stops = (card(page, name) for name in ("before", "after", "stops"))
    assert '<span class="state quiet">goes</span>' in before
    assert "<code>GET /facilities</code>" in after
    assert "<code>GET /facilities/x</code>" in stops
    # and nothing is changed by looking
    assert await filled.world.events(kind="grant.tightened") == []
    # when it is adopted
    made = await admin.post(f"{path}?days=30", rules=rules_of(page))
    assert made.headers["location"] == f"/console/grants/{filled.grant}"
    # then the grant has these rules, and looking again shows that there is nothing to narrow
    view = await filled.world.call("GET", f"/v1/grants/{filled.grant}")
    assert view["rules"] == [{"methods": ["GET"], "paths": ["/facilities"]}]
    (event,) = await filled.world.events(kind="grant.tightened")
    assert event["core"]["reason"].startswith("days=30,")
    assert "as narrow as that already" in await admin.get(path)


async def test_a_grant_that_nobody_used_says_so_and_what_to_do(admin: Reader, filled: Filled) -> None:
    page = await admin.get(f"/grants/{filled.other}/tighten?days=7")
    assert "Nothing was done under this grant in 7 days" in page
    assert f"/console/grants/{filled.other}/revoke" in page
    assert "Adopt these rules" not in page


async def test_a_grant_that_rules_can_t_narrow_says_why(admin: Reader, filled: Filled) -> None:
    assert f"/grants/{filled.waiting}/tighten" not in await admin.get(f"/grants/{filled.waiting}")
    assert "gives nothing now" in await admin.get(f"/grants/{filled.waiting}/tighten", 409)


@pytest.mark.parametrize(
    ("rules", "days", "status", "says"),
    [
        ("GET,DELETE /facilities", 30, 422, "rules: allow something that the grant doesn"),
        ("GET /nothing", 30, 409, "uses would have been refused"),
        ("GET facilities", 30, 422, "rules: line 1 is none"),
        ("GET /facilities", 0, 422, "days: "),
    ],
)
async def test_rules_that_are_wider_or_refuse_a_use_are_not_adopted(
    admin: Reader, filled: Filled, rules: str, days: int, status: int, says: str
) -> None:
    page = (await admin.post(f"/grants/{filled.grant}/tighten?days={days}", status, rules=rules)).text
    assert says in html.unescape(page)
    assert ('value="30"' in page) == bool(days)
    assert (await filled.world.call("GET", f"/v1/grants/{filled.grant}"))["presets"] == ["read-only"]


async def test_security_looks_and_an_operator_adopts_each_within_their_own_customers(
    world: World, filled: Filled
) -> None:
    path = f"/grants/{filled.grant}/tighten"
    security = Reader(world, await world.operator("sam", "security"))
    page = await security.get(path)
    assert "Somebody with the role operator adopts them." in page
    assert "Adopt these rules" not in page
    await security.post(path, 403, rules="GET /facilities")
    few = Reader(world, await world.operator("eve", "operator", organizations=["birch-grid"]))
    await few.get(path, 404)
    await few.post(path, 404, rules="GET /facilities")
    assert await world.events(kind="grant.tightened") == []
