"""Reviews on pages: what is due is found, decided one or many at once after being asked, and exported as evidence."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.support.integrated import integrating
from tests.support.world import World


async def security(world: World) -> Reader:
    """Somebody who made none of what is reviewed."""
    return Reader(world, await world.operator("sam", "security"))


async def started(world: World, subject: str) -> str:
    """The review of a grant or account, which is due now."""
    return str((await world.call("POST", "/v1/reviews", json={"subject": subject}))["id"])


async def state(world: World, review: str) -> str:
    return str((await world.call("GET", f"/v1/reviews/{review}"))["state"])


async def overdue(world: World) -> None:
    """Let the time of what is due pass, and the worker see it."""
    world.clock.forward(hours=31 * 24)
    await world.broker.worker.duties["review_rights"].run()


async def test_reviews_are_listed_by_state_with_how_many_there_are_and_when_they_are_due(
    admin: Reader, filled: Filled
) -> None:
    page = await admin.get("/reviews")
    assert "nightly-sync on acme-power" in page
    assert "Account of mira" in page
    for said in (
        'state=due" aria-current="true">Due <span class="quiet">2</span>',
        'Overdue <span class="quiet">0</span>',
    ):
        assert said in page
    assert "in 29 days" in page
    one = await admin.get("/reviews?organization=acme-power&state=due")
    assert "nightly-sync on acme-power" in one
    assert "Account of mira" not in one
    assert "Nothing is overdue." in await admin.get("/reviews?state=overdue")
    assert "There is none yet." in await admin.get("/reviews?state=decided")
    # when their time has passed, they are what the list begins with
    await overdue(filled.world)
    page = await admin.get("/reviews")
    assert 'state=overdue" aria-current="true">Overdue <span class="quiet">2</span>' in page
    assert "1 day ago" in page


async def test_what_is_due_or_overdue_waits_for_a_person_on_the_overview(world: World, filled: Filled) -> None:
    sam = await security(world)
    olga = Reader(world, await world.operator("olga", "operator"))
    page = await sam.get("")
    assert "A review is due" in page
    assert f"/console/reviews/{filled.review}" in page
    assert "A review is due" not in await olga.get(""), "as nobody with that role decides it"
    # what ended meanwhile is nobody's work
    await world.call("POST", f"/v1/grants/{filled.grant}/revoke", json={})
    assert f"/console/reviews/{filled.review}" not in await sam.get("")
    await overdue(world)
    page = await sam.get("")
    assert "A review is overdue" in page
    assert "account of mira" in page


async def test_a_review_is_started_from_its_form_once(world: World, admin: Reader, filled: Filled) -> None:
    assert f'value="{filled.person}"' in await admin.get(f"/reviews/new?subject={filled.person}")
    made = await admin.post("/reviews/new", subject=filled.grant)
    assert made.headers["location"] == f"/console/reviews/{filled.review}"
    wrong = (await admin.post("/reviews/new", 422, subject="nightly-sync")).text
    assert "write the id of a grant or account" in wrong
    assert 'value="nightly-sync"' in wrong
    await world.call("POST", f"/v1/grants/{filled.grant}/revoke", json={})
    assert "nothing to review" in (await admin.post("/reviews/new", 409, subject=filled.grant)).text


async def test_before_a_grant_is_revoked_the_page_names_what_stops_and_for_whom(world: World, filled: Filled) -> None:
    sam = await security(world)
    page = await sam.get(f"/reviews/{filled.review}/decide?decision=revoke")
    for said in ("Revoke: nightly-sync on acme-power?", "1 key of 1 credential", "1 grant", "1 lease", "nightly-sync"):
        assert said in page
    decided = await sam.post("/reviews/decide", review=filled.review, decision="revoke", sure="yes", reason="unused")
    assert decided.headers["location"] == f"/console/reviews/{filled.review}"
    page = await sam.get(f"/reviews/{filled.review}")
    assert ">decided<" in page
    event = re.findall(r"/console/audit/(evt_[0-9a-f]+)", page)[0]
    assert "review.decided" in await sam.get(f"/audit/{event}")
    assert (await world.call("GET", f"/v1/grants/{filled.grant}"))["state"] == "revoked"
    assert (await world.events(kind="grant.revoked"))[0]["personal"]["note"] == "unused"


async def test_many_reviews_are_asked_about_then_decided_at_once(world: World, filled: Filled) -> None:
    sam = await security(world)
    both = [filled.review, (await world.items("/v1/reviews", state="due"))[0]["id"]]
    asked = (await sam.post("/reviews/decide", 200, review=both, decision="keep")).text
    assert "Keep these 2?" in asked
    assert asked.count(" checked>") == 2
    assert [await state(world, each) for each in both] == ["due", "due"], "nothing is decided by asking"
    done = await sam.post("/reviews/decide", review=both, decision="keep", sure="yes", reason="looked at with Bea")
    assert done.headers["location"] == "/console/reviews"
    assert [await state(world, each) for each in both] == ["decided", "decided"]
    assert "keep" in await sam.get("/reviews?state=decided")
    assert 'Scheduled <span class="quiet">2</span>' in await sam.get("/reviews"), "each is looked at again"


async def test_what_stops_with_several_grants_is_counted_once_for_all(world: World, filled: Filled) -> None:
    sam = await security(world)
    grants = [one["id"] for one in await world.items("/v1/grants", organization="acme-power")]
    reviews = [await started(world, grant) for grant in grants]
    page = (await sam.post("/reviews/decide", 200, review=reviews, decision="revoke")).text
    assert "Revoke these 2?" in page
    assert "2 grants" in page
    assert "1 key of 1 credential" in page


@pytest.mark.parametrize("first", [True, False])
async def test_what_is_refused_stays_on_the_page_and_the_rest_is_done(
    world: World, filled: Filled, *, first: bool
) -> None:
    """Nobody keeps their own account; who decided others in the same form has decided them."""
    sam = await security(world)
    own = await started(world, (await world.call("GET", "/v1/operators/me", as_=sam.who))["id"])
    assert "Whoever has the account can't keep it" in await sam.get(f"/reviews/{own}")
    assert "Whoever made the grant can't keep it" in await sam.get(f"/reviews/{filled.review}")
    both = [own, filled.review] if first else [filled.review, own]
    fields: dict[str, Any] = {"decision": "keep", "sure": "yes", "reason": "looked at with Bea"}
    page = (await sam.post("/reviews/decide", 403, review=both, **fields)).text
    assert "Somebody else has to review this" in page
    assert ">refused<" in page
    assert "looked at with Bea" in page
    assert f'value="{own}"' in page
    assert f'value="{filled.review}"' not in page
    assert [await state(world, each) for each in (filled.review, own)] == ["decided", "due"]
    # and without a reason nothing is decided
    page = (await sam.post("/reviews/decide", 422, review=own, decision="keep", sure="yes")).text
    assert "reason: " in page
    assert "no review was chosen" in (await sam.post("/reviews/decide", 422, decision="keep")).text


async def test_a_grant_is_tightened_to_what_it_was_used_for(world: World, filled: Filled) -> None:
    sam = await security(world)
    assert "so many days" in await sam.get(f"/reviews/{filled.review}/decide?decision=tighten")
    fields: dict[str, Any] = {"decision": "tighten", "sure": "yes", "reason": "seldom", "days": "30"}
    await sam.post("/reviews/decide", review=filled.review, **fields)
    rules = (await world.call("GET", f"/v1/grants/{filled.grant}"))["rules"]
    assert rules == [{"methods": ["GET"], "paths": ["/facilities"]}]


async def test_only_an_admin_ends_an_account_by_its_review(world: World, admin: Reader, filled: Filled) -> None:
    sam = await security(world)
    review = await started(world, filled.person)
    revoke = f"/reviews/{review}/decide?decision=revoke"
    assert revoke in await admin.get(f"/reviews/{review}")
    assert revoke not in await sam.get(f"/reviews/{review}"), "it would be refused"
    page = await sam.get(revoke)
    assert "mira is signed out everywhere" in page
    fields: dict[str, Any] = {"review": review, "decision": "revoke", "sure": "yes", "reason": "left"}
    assert "Only an admin ends accounts" in (await sam.post("/reviews/decide", 403, **fields)).text
    await admin.post("/reviews/decide", **fields)
    assert ">revoked<" in await admin.get(f"/accounts/{filled.person}")


async def test_reviews_are_decided_and_exported_by_the_role_security_alone(world: World, filled: Filled) -> None:
    olga = Reader(world, await world.operator("olga", "operator"))
    page = await olga.get("/reviews")
    assert "nightly-sync on acme-power" in page
    assert '<input type="checkbox"' not in page
    assert "/console/reviews/export" not in page
    assert "The role security decides." in await olga.get(f"/reviews/{filled.review}")
    for path in ("/reviews/new", f"/reviews/{filled.review}/decide?decision=keep", "/reviews/export"):
        await olga.get(path, 403)
    await olga.post("/reviews/decide", 403, review=filled.review, decision="keep", sure="yes", reason="x")
    assert await state(world, filled.review) == "due"


async def test_a_limited_account_sees_counts_and_decides_its_customers_reviews_alone(
    world: World, filled: Filled
) -> None:
    few = Reader(world, await world.operator("eve", "security", organizations=["dune-solar"]))
    page = await few.get("/reviews")
    assert "nightly-sync" not in page
    assert "mira" not in page
    assert 'Due <span class="quiet">0</span>' in page
    await few.get(f"/reviews/{filled.review}", 404)
    assert "A review is due" not in await few.get("")
    fields: dict[str, Any] = {"review": filled.review, "decision": "keep", "sure": "yes", "reason": "x"}
    await few.post("/reviews/decide", 404, **fields)
    assert await state(world, filled.review) == "due"


async def test_decisions_are_exported_with_their_proofs_as_a_file(world: World, filled: Filled) -> None:
    sam = await security(world)
    await sam.post("/reviews/decide", review=filled.review, decision="keep", sure="yes", reason="looked at with Bea")
    today = (await world.call("GET", f"/v1/reviews/{filled.review}"))["decided_at"][:10]
    async with integrating(world):
        path = f"/console/reviews/export?since={today}&until={today}&personal=true"
        answer = await world.http.get(path, headers=sam.who)
    assert answer.headers["content-disposition"] == 'attachment; filename="reviews.ndjson"'
    decision, end = [json.loads(line) for line in answer.text.splitlines()]
    assert (decision["review"], decision["decision"], end["decisions"]) == (filled.review, "keep", 1)
    assert decision["receipt"]
    assert "until: lies before since" in await sam.get("/reviews/export?since=2030-01-01&until=2020-01-01", 422)
