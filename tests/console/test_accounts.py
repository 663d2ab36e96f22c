"""Accounts on pages: who has one, where they are signed in; made with what is shown once, ended after being asked."""

from __future__ import annotations

import re

from broker import app as composition
from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.console.test_acts import link_of, mark_of
from tests.support.world import World


async def second_admin(world: World) -> Reader:
    """An admin whom nobody of the others made."""
    token = await composition.bootstrap_token(world.services, replace=True)
    made = await world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": "bea"})
    return Reader(world, {"Authorization": f"Bearer {made['token']}"})


def row_of(page: str, account: str) -> str:
    """The row of an account in the list."""
    return page[page.index(f"/console/accounts/{account}") :].partition("</tr>")[0]


async def test_accounts_are_listed_with_roles_limits_state_and_how_they_are_there(
    admin: Reader, filled: Filled
) -> None:
    page = await admin.get("/accounts")
    person, machine = row_of(page, filled.person), row_of(page, filled.machine)
    for said in (
        ">person<",
        ">active<",
        ">security<",
        "acme-power, birch-grid",
        "just now",
        '<td class="number">1</td>',
    ):
        assert said in person
    for said in (">machine<", ">operator<", "every one"):
        assert said in machine
    assert ">waiting<" in page
    found = await admin.get("/accounts?name=mir&state=active")
    assert "mira" in found
    assert "report-mailer" not in found
    assert "None fits." in await admin.get("/accounts?name=nobody")


async def test_a_person_is_added_and_the_link_that_is_shown_once_signs_them_in(admin: Reader, world: World) -> None:
    await world.organization("elm-water")
    form = await admin.get("/accounts/new")
    fields = {"name": "nora", "organizations": "elm-water\r\n", "once": mark_of(form)}
    made = (await admin.post("/accounts/new", 200, role=["operator", "security"], **fields)).text
    link = link_of(made)
    assert made.count(link) == 2, "in a field, and in a message that is ready to be sent"
    assert "Hello nora," in made
    again = (await admin.post("/accounts/new", 200, role=["operator", "security"], **fields)).text
    assert link_of(again) == link, "a form that is sent twice makes one account"
    me = await world.call("GET", "/v1/operators/me", as_=await world.signed_in(link))
    assert (me["name"], me["roles"]) == ("nora", ["operator", "security"])
    assert len(me["organizations"]) == 1
    account = await admin.get(f"/accounts/{me['id']}")
    assert link.partition("#")[2] not in account
    assert "elm-water" in account


async def test_what_is_refused_is_told_on_the_form_with_what_was_written(admin: Reader, filled: Filled) -> None:
    page = (await admin.post("/accounts/new", 409, name="mira", role="security", organizations="acme-power")).text
    assert "exists already" in page
    assert 'value="mira"' in page
    assert 'value="security" checked' in page
    assert ">acme-power</textarea>" in page
    page = (await admin.post("/accounts/new", 422, name="nora")).text
    assert "roles: " in page
    page = (await admin.post("/accounts/token", 404, name="x", role="operator", organizations="nobody")).text
    assert "There is no such organization for you" in page


async def test_who_lost_their_way_in_gets_a_new_link_and_the_earlier_one_works_no_more(
    admin: Reader, world: World
) -> None:
    made = await world.call("POST", "/v1/operators", status=201, json={"name": "nora", "roles": ["operator"]})
    account = f"/accounts/{made['operator']['id']}"
    assert "signs in as nora" in await admin.get(f"{account}/link")
    page = (await admin.post(f"{account}/link", 200)).text
    first = {"secret": made["link"].partition("#")[2]}
    await world.call("POST", "/v1/sessions", as_={}, status=401, json=first)
    assert (await world.call("GET", "/v1/operators/me", as_=await world.signed_in(link_of(page))))["name"] == "nora"


async def test_a_machine_gets_a_token_that_is_shown_once_and_ends(admin: Reader, world: World) -> None:
    fields = {"name": "nightly-report", "role": "operator", "days": "30"}
    fields["once"] = mark_of(await admin.get("/accounts/token"))
    page = (await admin.post("/accounts/token", 200, **fields)).text
    token = re.findall(r'id="token"[^>]* value="(kbo_[^"]+)"', page)[0]
    me = await world.call("GET", "/v1/operators/me", as_={"Authorization": f"Bearer {token}"})
    assert (me["name"], me["kind"]) == ("nightly-report", "machine")
    shown = await admin.get(f"/accounts/{me['id']}")
    assert token not in shown
    assert "in 29 days" in shown or "in 30 days" in shown
    assert "New link" not in shown
    refused = (await admin.post(f"/accounts/{me['id']}/link", 409)).text
    assert "a machine" in refused


async def test_sessions_of_somebody_are_shown_and_ended_one_or_all(admin: Reader, world: World, filled: Filled) -> None:
    link = (await world.call("POST", f"/v1/operators/{filled.person}/link"))["link"]
    await world.signed_in(link)
    account = f"/accounts/{filled.person}"
    sessions = [one["id"] for one in await world.items("/v1/sessions", operator=filled.person)]
    assert len(sessions) == 2
    page = await admin.get(account)
    assert all(f"{account}/sessions/{one}/end" in page for one in sessions)
    assert "Command line" in await admin.get(f"{account}/sessions/{sessions[0]}/end")
    ended = await admin.post(f"{account}/sessions/{sessions[0]}/end")
    assert ended.headers["location"] == f"/console{account}"
    assert [one["id"] for one in await world.items("/v1/sessions", operator=filled.person)] == sessions[1:]
    assert "in 1 of their places" in await admin.get(f"{account}/sessions/end")
    await admin.post(f"{account}/sessions/end")
    assert "Nobody is signed in with this account." in await admin.get(account)
    reasons = [event["core"]["reason"] for event in await world.events(kind="session.ended")]
    assert reasons == ["ended_by_admin", "ended_by_admin"]


async def test_before_an_account_is_revoked_the_page_names_what_stops(
    admin: Reader, world: World, filled: Filled
) -> None:
    asked = await admin.get(f"/accounts/{filled.person}/revoke")
    assert "Its 1 session ends with the answer." in asked
    assert "Its token stops working" in await admin.get(f"/accounts/{filled.machine}/revoke")
    await admin.post(f"/accounts/{filled.person}/revoke")
    page = await admin.get(f"/accounts/{filled.person}")
    assert ">revoked<" in page
    assert f"/accounts/{filled.person}/revoke" not in page
    mine = (await world.call("GET", "/v1/operators/me"))["id"]
    refused = (await admin.post(f"/accounts/{mine}/revoke", 409)).text
    assert "This is the last admin" in refused


async def test_an_admin_who_waits_is_approved_by_a_second_person_on_the_page(admin: Reader, filled: Filled) -> None:
    world = filled.world
    cleo = next(one["id"] for one in await world.items("/v1/operators", state="waiting"))
    page = await admin.get(f"/accounts/{cleo}")
    assert "It waits for a second person." in page
    assert "You asked for it, so somebody else approves it." in page
    assert "Approve<" not in page
    assert "You asked for this yourself." in (await admin.post(f"/accounts/{cleo}/approve", 403)).text
    second = await second_admin(world)
    await second.post(f"/accounts/{cleo}/approve")
    assert ">active<" in await second.get(f"/accounts/{cleo}")


async def test_what_makes_access_asks_for_a_fresh_proof(admin: Reader, filled: Filled) -> None:
    filled.world.people.stay = False
    filled.world.clock.forward(seconds=600)
    account = f"/accounts/{filled.person}"
    for path, back in ((f"{account}/link", f"{account}/link"), ("/accounts/token", "/accounts/token")):
        led = await admin.post(path, name="x", role="operator")
        assert led.headers["location"] == f"/login/again?to=/console{back}"
    for role in ("admin", "operator"):
        led = await admin.post("/accounts/new", name="x", role=role)
        assert led.headers["location"] == "/login/again?to=/console/accounts/new"
    # the forms ask before anything is written on them
    for form in ("new", "token"):
        response = await filled.world.http.get(f"/console/accounts/{form}", headers=admin.who)
        assert response.headers["location"] == f"/login/again?to=/console/accounts/{form}"
    names = [one["name"] for one in await filled.world.items("/v1/operators")]
    assert "x" not in names


async def test_accounts_are_for_admins_and_within_their_limits(world: World, filled: Filled) -> None:
    sam = Reader(world, await world.operator("sam", "security"))
    assert "/console/accounts" not in await sam.get("")
    account = f"/accounts/{filled.person}"
    for path in ("/accounts", "/accounts/new", "/accounts/token", account, f"{account}/revoke", f"{account}/link"):
        assert "This needs the role admin" in await sam.get(path, 403)
    for path in ("/accounts/new", "/accounts/token", f"{account}/revoke", f"{account}/link"):
        assert "This needs the role admin" in (await sam.post(path, 403, name="x", role="operator")).text
    session = (await world.items("/v1/sessions", operator=filled.person))[0]["id"]
    await sam.post(f"{account}/sessions/end", 403)
    await sam.post(f"{account}/sessions/{session}/end", 403)
    assert len(await world.items("/v1/sessions", operator=filled.person)) == 1


async def test_a_limited_admin_sees_and_ends_accounts_within_the_same_limits_alone(
    world: World, filled: Filled
) -> None:
    wanted = {"name": "amy", "roles": ["admin"], "organizations": ["acme-power"]}
    made = await world.call("POST", "/v1/operators", status=201, json=wanted)
    await (await second_admin(world)).post(f"/accounts/{made['operator']['id']}/approve")
    amy = Reader(world, await world.signed_in(made["link"]))
    page = await amy.get("/accounts")
    assert "amy" in page
    assert "mira" not in page
    account = f"/accounts/{filled.person}"
    session = (await world.items("/v1/sessions", operator=filled.person))[0]["id"]
    for path in (account, f"{account}/revoke", f"{account}/link", f"{account}/sessions/{session}/end"):
        await amy.get(path, 404)
    await amy.post(f"{account}/revoke", 404)
    await amy.post(f"{account}/sessions/{session}/end", 404)
    refused = (await amy.post("/accounts/new", 403, name="nora", role="operator")).text
    assert "your account is limited to some organizations" in refused
    assert (await world.items("/v1/operators", name="mira"))[0]["state"] == "active"
