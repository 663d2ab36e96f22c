"""What is done on pages is what the API does: under its roles, told before, refused in its words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import get_type_hints

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from sqlalchemy import update

from broker import app as composition
from broker.base.db import EVERY_TENANT
from broker.credentials.tables import RotationRow
from broker.web.api import ROUTERS as OF_THE_API
from broker.web.console import ROUTERS
from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.support.world import World


def link_of(page: str) -> str:
    """The one-time link that a page shows."""
    return str(re.findall(r'id="link"[^>]* value="([^"]+)"', page)[0])


def mark_of(page: str) -> str:
    return str(re.findall(r'name="once" value="([^"]+)"', page)[0])


async def test_a_customer_is_added_then_asked_for_a_key_and_the_link_works(admin: Reader, world: World) -> None:
    # given a customer that was added on the page
    made = await admin.post("/organizations/new", slug="elm-water", name="Elm Water")
    assert made.headers["location"] == "/console/organizations/elm-water"
    there = world.upstream.add_organization("elm-water", 1)
    key = world.upstream.add_key(there)[1]
    # when a key is asked for from the customer's page
    assert "/console/requests/new?organization=elm-water" in await admin.get("/organizations/elm-water")
    form = await admin.get("/requests/new?organization=elm-water")
    wanted = {
        "organization": "elm-water",
        "provider": "raptor-comply",
        "contact": "ann@elm.example",
        "purpose": "audits",
        "once": mark_of(form),
    }
    page = (await admin.post("/requests/new", 200, **wanted)).text
    # then the link is there with a message, and takes a key
    link = link_of(page)
    assert page.count(link) == 2
    assert "Gridwise Compliance needs the Raptor Comply API key of Elm Water." in page
    intake, _, secret = link.rpartition("/")[2].partition("#")
    assert secret not in await admin.get(f"/requests/{intake}")
    done = await world.submit(intake, secret, key)
    assert done.json()["state"] == "accepted"
    assert ">accepted<" in await admin.get(f"/requests/{intake}")


async def test_a_form_that_is_sent_twice_asks_once(admin: Reader, filled: Filled) -> None:
    wanted = {"organization": "dune-solar", "provider": "raptor-comply", "contact": "a@dune.example", "label": "third"}
    wanted["once"] = mark_of(await admin.get("/requests/new"))
    first, again = [await admin.post("/requests/new", 200, **wanted) for _ in range(2)]
    assert link_of(first.text) == link_of(again.text)
    found = await filled.world.items("/v1/intakes", organization="dune-solar", label="third")
    assert len(found) == 1


async def test_what_is_refused_is_told_on_the_form_with_what_was_written(admin: Reader, filled: Filled) -> None:
    wanted = {"organization": "nobody", "provider": "raptor-comply", "contact": "a@b.example", "purpose": "audits"}
    page = (await admin.post("/requests/new", 404, **wanted)).text
    assert "There is no such organization for you" in page
    assert 'value="audits"' in page
    page = (await admin.post("/requests/new", 422, **{**wanted, "contact": "nothing"})).text
    assert "contact: write one e-mail address" in page
    page = (await admin.post("/organizations/new", 409, slug="acme-power", name="Another")).text
    assert "exists already" in page
    assert 'value="Another"' in page
    held = (await admin.post(f"/grants/{filled.waiting}/approve", 403)).text
    assert "second person" in held
    assert 'role="alert"' in held


async def test_a_reminder_makes_a_new_link_and_a_cancelled_request_has_none(admin: Reader, filled: Filled) -> None:
    request = f"/requests/{filled.open_request}"
    page = (await admin.post(f"{request}/remind", 200, hours="24")).text
    assert "This one takes its place, and that one works no more." in page
    assert (await filled.world.open(filled.open_request, filled.secret)).status_code == 404
    secret = link_of(page).partition("#")[2]
    assert (await filled.world.open(filled.open_request, secret)).json()["state"] == "open"
    assert "stops working" in await admin.get(f"{request}/cancel")
    await admin.post(f"{request}/cancel")
    assert (await filled.world.open(filled.open_request, secret)).status_code == 410
    cancelled = await admin.get(request)
    assert ">cancelled<" in cancelled
    assert "Link end" not in cancelled, "it ended with the request, and not at the time that it was given"


async def test_before_a_customer_is_revoked_the_page_names_what_stops_and_for_whom(
    admin: Reader, filled: Filled
) -> None:
    page = await admin.get("/organizations/acme-power/revoke")
    for said in ("1 key of 1 credential", "2 grants", "1 lease", "nightly-sync"):
        assert said in page
    await admin.post("/organizations/acme-power/revoke", reason="the contract ended")
    view = await filled.world.call("GET", "/v1/organizations/acme-power")
    assert view["state"] == "revoked"
    event = (await filled.world.events(kind="organization.revoked"))[0]
    assert event["personal"]["note"] == "the contract ended"


async def test_a_jobs_page_lists_its_trusts_and_takes_one_back(admin: Reader, filled: Filled) -> None:
    claims = {"repository_id": ["456789"], "repository_owner_id": ["123456"], "environment": ["prod", "test"]}
    wanted = {"workload": filled.job.id, "issuer": "github-actions", "claims": claims, "note": "the nightly run"}
    trust = await filled.world.call("POST", "/v1/trusts", status=201, json=wanted)
    page = await admin.get(f"/jobs/{filled.job.id}")
    for said in ("environment = prod or test", "the nightly run", "or its platform&#39;s tokens", "anywhere"):
        assert said in page or said.replace("&#39;", "'") in page, said
    assert "1 key, 1 trust" in await admin.get("/jobs")
    asked = await admin.get(f"/trusts/{trust['id']}/revoke")
    assert "No token of github-actions" in asked
    assert "environment = prod or test, repository_id = 456789" in asked
    done = await admin.post(f"/trusts/{trust['id']}/revoke", reason="a test")
    assert done.headers["location"] == f"/console/jobs/{filled.job.id}"
    assert (await filled.world.call("GET", f"/v1/trusts/{trust['id']}"))["state"] == "revoked"
    assert "the nightly run" not in await admin.get(f"/jobs/{filled.job.id}")
    (event,) = await filled.world.events(kind="trust.revoked")
    assert event["personal"]["note"] == "a test"
    audit = await admin.get("/audit?kind=trust.created")
    assert "environment=prod|test repository_id=456789" in audit
    (made,) = await filled.world.events(kind="trust.created")
    assert trust["id"] in await admin.get(f"/audit/{made['core']['id']}")


async def test_settings_list_the_issuers_of_jobs_tokens_and_their_state(admin: Reader, world: World) -> None:
    await world.call("POST", "/v1/issuers/google/suspend", json={"reason": "x"})
    page = await admin.get("/settings")
    for said in ("https://token.actions.githubusercontent.com", "suspended", "not asked yet"):
        assert said in page


async def test_leases_are_cut_one_or_many_at_once(admin: Reader, filled: Filled) -> None:
    other = await filled.job.lease("acme-power")
    both = [str(filled.lease["id"]), other["lease"]["id"]]
    asked = (await admin.post("/leases/cut", 200, lease=both)).text
    assert "Cut 2 leases?" in asked
    assert ">active<" in await admin.get(f"/leases/{both[0]}")
    await admin.post("/leases/cut", lease=both, sure="yes", reason="a test")
    for each in both:
        assert ">revoked<" in await admin.get(f"/leases/{each}")
    assert (await filled.world.proxied(other, "/facilities")).status_code == 409
    none = (await admin.post("/leases/cut", 422)).text
    assert "no lease was chosen" in none


async def test_an_exposed_key_is_contained_and_its_timeline_tells_who_used_it(admin: Reader, filled: Filled) -> None:
    key = f"/keys/{filled.key}"
    assert "1 lease" in await admin.get(f"{key}/expose")
    fields = {"found_by": "security", "where": "a log", "once": mark_of(await admin.get(f"{key}/expose"))}
    await admin.post(f"{key}/expose", 200, **fields)
    incident = (await filled.world.items("/v1/exposures", organization="acme-power"))[0]
    timeline = await admin.get(f"/incidents/{incident['id']}/timeline")
    assert "Cut off here" in timeline
    assert filled.job.id in timeline
    assert (await filled.job.ask("acme-power")).status_code == 403


async def test_whose_key_is_exposed_is_asked_to_revoke_it_before_they_make_a_new_one(
    admin: Reader, filled: Filled
) -> None:
    # when a key is reported as exposed
    last4 = filled.world.upstream_keys["acme-power"][-4:]
    form = await admin.get(f"/keys/{filled.key}/expose")
    assert "Grants that end" not in form, "grants stand, and reach the next key"
    fields = {"found_by": "security", "where": "a log", "once": mark_of(form)}
    page = (await admin.post(f"/keys/{filled.key}/expose", 200, **fields)).text
    # then the message asks for the urgent first, by the provider's own steps, and promises nothing that isn't so
    intake = link_of(page).rpartition("/")[2].partition("#")[0]
    reminder = (await admin.post(f"/requests/{intake}/remind", 200, hours="24")).text
    for message in (page, reminder):
        assert "Urgent: revoke your Raptor Comply key" in message
        assert f"that ends in {last4} may be known to others" in message
        assert "choose Revoke" in message
        assert "stays in use" not in message
    # and nobody is told that giving the request up leaves the key in use
    assert "the present key stays in use" not in await admin.get(f"/requests/{intake}/cancel")


async def test_nobody_is_told_that_a_key_is_known_to_others_who_only_is_to_make_one_soon(
    admin: Reader, filled: Filled
) -> None:
    # given a change of key that is urgent for another reason than an exposure, as after a restore
    form = await admin.get(f"/keys/{filled.key}/rotate")
    fields = {"contact": "ann@acme.example", "once": mark_of(form)}
    intake = link_of((await admin.post(f"/keys/{filled.key}/rotate", 200, **fields)).text).rpartition("/")[2]
    async with filled.world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(RotationRow).values(kind="urgent"))
    reminder = (await admin.post(f"/requests/{intake.partition('#')[0]}/remind", 200, hours="24")).text
    assert "may be known to others" not in reminder
    assert "The present one stays in use until the new one works" in reminder


async def test_a_grant_that_waits_is_approved_by_a_second_person(world: World, filled: Filled) -> None:
    token = await composition.bootstrap_token(world.services, replace=True)
    made = await world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": "bea"})
    second = Reader(world, {"Authorization": f"Bearer {made['token']}"})
    assert "Approve</button>" in await second.get(f"/grants/{filled.waiting}")
    await second.post(f"/grants/{filled.waiting}/approve")
    assert ">active<" in await second.get(f"/grants/{filled.waiting}")
    await second.post(f"/grants/{filled.waiting}/revoke", reason="not needed")
    assert ">revoked<" in await second.get(f"/grants/{filled.waiting}")


async def test_a_job_a_version_and_a_credential_are_ended_by_their_pages(admin: Reader, filled: Filled) -> None:
    await admin.post(f"/keys/{filled.key}/versions/1/revoke", reason="a test")
    assert await filled.world.states(filled.key) == ["revoked"]
    await admin.post(f"/keys/{filled.key}/versions/1/destroy")
    assert await filled.world.states(filled.key) == ["destroyed"]
    await admin.post(f"/keys/{filled.failing}/revoke", reason="a test")
    assert (await filled.world.call("GET", f"/v1/credentials/{filled.failing}"))["state"] == "revoked"
    await admin.post(f"/jobs/{filled.job.id}/revoke", reason="a test")
    assert (await filled.world.call("GET", f"/v1/workloads/{filled.job.id}"))["state"] == "revoked"
    refused = (await admin.post(f"/keys/{filled.failing}/versions/1/activate", 409)).text
    assert 'role="alert"' in refused


async def test_who_signed_in_too_long_ago_proves_it_again_and_comes_back_to_the_page(
    admin: Reader, filled: Filled
) -> None:
    filled.world.people.stay = False
    filled.world.clock.forward(seconds=600)
    for path, back in (
        ("/organizations/acme-power/revoke", "/console/organizations/acme-power/revoke"),
        (f"/grants/{filled.waiting}/approve", f"/console/grants/{filled.waiting}"),
        (f"/keys/{filled.exposed}/versions/1/destroy", f"/console/keys/{filled.exposed}/versions/1/destroy"),
    ):
        led = await admin.post(path)
        assert led.headers["location"] == f"/login/again?to={back}"
    assert (await filled.world.call("GET", "/v1/organizations/acme-power"))["state"] == "active"


async def test_forms_are_for_the_roles_that_the_api_asks_for(world: World, filled: Filled) -> None:
    operator = Reader(world, await world.operator("olga", "operator"))
    security = Reader(world, await world.operator("sam", "security"))
    for reader, path in (
        (security, "/organizations/new"),
        (security, "/requests/new"),
        (security, f"/requests/{filled.open_request}/cancel"),
        (security, f"/keys/{filled.key}/rotate"),
        (security, f"/keys/{filled.key}/versions/1/activate"),
        (operator, f"/grants/{filled.waiting}/approve"),
        (operator, "/settings/operators/opr_" + "0" * 32 + "/approve"),
    ):
        refused = (await reader.post(path, 403)).text
        assert "This needs the role" in refused
    await operator.get("/audit", 403)
    assert "/console/audit" not in await operator.get("")


def test_each_form_asks_for_the_roles_of_what_it_calls() -> None:
    """A page calls the API's function past its route, so its own has to insist on the same role."""
    of_the_api = [route.endpoint for router in OF_THE_API for route in posting(router)]
    forms = [route.endpoint for router in ROUTERS for route in posting(router)]
    assert forms
    for form in forms:
        called = [endpoint for endpoint in of_the_api if calls(form, endpoint)]
        assert called, form
        assert all(caller(form) == caller(endpoint) for endpoint in called), form


def posting(router: APIRouter) -> list[APIRoute]:
    return [route for route in router.routes if isinstance(route, APIRoute) and "POST" in (route.methods or ())]


def caller(endpoint: Callable[..., object]) -> object:
    """By which dependency a function is called."""
    hints = get_type_hints(endpoint, include_extras=True)
    return hints.get("call", hints.get("caller"))


def calls(form: Callable[..., object], endpoint: Callable[..., object]) -> bool:
    """Whether the source of a form names this function of the API."""
    modules = vars(inspect.getmodule(form)).items()
    names = [name for name, value in modules if getattr(value, "__name__", "") == endpoint.__module__]
    return any(re.search(rf"\b{name}\.{endpoint.__name__}\(", inspect.getsource(form)) for name in names)


@pytest.mark.parametrize("path", ["/leases/cut", "/requests/new"])
async def test_a_form_that_is_none_is_refused(admin: Reader, world: World, path: str) -> None:
    response = await world.http.post(f"/console{path}", headers=admin.who, content=b"\xff\xfe=%ff")
    assert response.status_code == 422
