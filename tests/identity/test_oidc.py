"""People sign in by an OpenID provider: whom the broker lets in, as whom, and for how long."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.responses import JSONResponse, Response

from broker.app import bootstrap_token
from broker.base.db import EVERY_TENANT
from broker.identity.oidc.refusals import REASONS
from broker.identity.oidc.tables import IdentityRow, PendingRow, RecheckRow
from tests.identity.test_sessions import in_browser
from tests.support.issuer import pair, signed
from tests.support.signing_in import ACME, ADMINS, OPERATORS, Browser, SigningIn, signing_in

GROUPS = {"groups": [OPERATORS]}
TOKEN, USERINFO = "/token", "/userinfo"


@pytest.fixture
async def there(tmp_path: Path, database_url: str) -> AsyncIterator[SigningIn]:
    async with signing_in(tmp_path, database_url) as made:
        yield made


async def let_in(there: SigningIn, **claims: Any) -> Browser:
    browser = there.browser()
    answer = await browser.sign_in(there.provider, **{**GROUPS, **claims})
    assert answer.status_code == 303, answer.text
    return browser


async def work(there: SigningIn, minutes: float) -> None:
    """Let time pass, in which everybody is at their screens, and the worker does a round."""
    for _ in range(int(minutes)):
        there.world.clock.forward(seconds=60)
        await there.world.broker.worker.once()


async def test_a_person_signs_in_by_their_provider(there: SigningIn) -> None:
    browser = there.browser()
    asked = await browser.leave(to="/console/keys")
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"].endswith("/login/callback")
    answer = await browser.come_back(code=there.provider.give_code(asked, preferred_username="olga", **GROUPS))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/keys")
    me = await browser.me()
    assert (me["name"], me["roles"], me["organizations"]) == ("olga", ["operator"], None)
    session = (await browser.http.get("/v1/sessions")).json()["items"][0]
    assert (session["way"], session["issuer"]) == ("oidc", there.provider.url)
    kinds = [event["kind"] for event in await there.world.events(limit=20)]
    assert {"operator.created", "operator.linked", "session.begun"} <= {*kinds}
    # and the same person has the same account next time, whatever they are called by then
    again = await let_in(there, preferred_username="olga-married")
    assert (await again.me())["id"] == me["id"]


async def test_the_broker_proves_who_it_is_and_that_it_began_the_sign_in(there: SigningIn) -> None:
    browser = await let_in(there)
    form = there.provider.forms[-1]
    digest = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()[:-1]
    assert browser.sent["code_challenge"] == digest != form["code_verifier"]
    assert "client_secret" not in form


async def test_a_sign_in_is_its_own_browsers_alone(there: SigningIn) -> None:
    mallory, victim = there.browser(), there.browser()
    code = there.provider.give_code(await mallory.leave(), **GROUPS)
    for other in (victim, there.browser()):
        await victim.leave()
        answer = await other.http.get("/login/callback", params={"state": mallory.sent["state"], "code": code})
        await there.refused(answer, "sign_in_unknown", REASONS)
    await victim.me(401)


async def test_a_sign_in_is_finished_once_and_within_ten_minutes(there: SigningIn) -> None:
    browser = there.browser()
    code = there.provider.give_code(await browser.leave(), **GROUPS)
    kept = browser.http.cookies["keybroker-sign-in"]
    assert (await browser.come_back(code=code)).status_code == 303
    await there.refused(await browser.come_back(code=code), "sign_in_unknown", REASONS)
    # nor by a browser that forgets nothing, and a provider that gives another code
    browser.http.cookies.set("keybroker-sign-in", kept)
    again = await browser.come_back(code=there.provider.give_code(browser.sent, **GROUPS))
    await there.refused(again, "sign_in_unknown", REASONS)
    late = there.browser()
    code = there.provider.give_code(await late.leave(), **GROUPS)
    there.world.clock.forward(seconds=601)
    await there.refused(await late.come_back(code=code), "sign_in_unknown", REASONS)
    for odd in ("", "x", "é", "\0", "x" * 43):
        answer = await browser.http.get("/login/callback", params={"state": odd, "code": "c"})
        await there.refused(answer, "sign_in_unknown", REASONS)


async def test_a_code_that_the_provider_refuses_signs_nobody_in_and_nothing_is_echoed(there: SigningIn) -> None:
    browser = there.browser()
    refusal = {"error": "invalid_grant", "error_description": "<b>echo me"}
    there.provider.answers[TOKEN] = lambda: JSONResponse(refusal, 400)
    answer = await browser.sign_in(there.provider, **GROUPS)
    await there.refused(answer, "code_refused", REASONS)
    assert "<b>" not in answer.text
    await browser.leave()
    said = await browser.come_back(error="access_denied<script>", error_description="<script>x</script>")
    await there.refused(said, "provider_refused", REASONS)
    assert "<script>" not in said.text


async def test_the_database_gives_away_no_secret_of_a_sign_in(there: SigningIn) -> None:
    browser = there.browser()
    asked = await browser.leave()
    there.provider.give_code(asked, **GROUPS)
    async with there.world.services.parts.db.read(EVERY_TENANT) as session:
        row = (await session.scalars(select(PendingRow))).one()
    for secret in (asked["state"], asked["nonce"], asked["code_challenge"]):
        assert secret.encode() not in (row.state_hash, row.seal)
    # and who writes there can't bend it
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(PendingRow).values(destination="https://evil.example"))
    code = there.provider.give_code(asked, **GROUPS)
    await there.refused(await browser.come_back(code=code), "sign_in_unknown", REASONS)


ODD_TOKENS: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "other"},
    "no nonce": {"nonce": None},
    "a list as nonce": {"nonce": ["x"]},
    "for us by somebody else's leave": {"azp": "other"},
    "for somebody else by ours": {"aud": "other", "azp": "keybroker"},
    "for us and others": {"aud": ["keybroker", "other"], "azp": "keybroker"},
    "of another issuer": {"iss": "https://else.example"},
    "over": {"exp": 1_000_000_000},
    "without subject": {"sub": None},
    "a number as subject": {"sub": 7},
    "asked in the future": {"auth_time": 9_000_000_000},
}


@pytest.mark.parametrize("odd", ODD_TOKENS)
async def test_an_id_token_has_to_be_for_this_sign_in(odd: str, there: SigningIn) -> None:
    browser = there.browser()
    await there.refused(await browser.sign_in(there.provider, **GROUPS, **ODD_TOKENS[odd]), "token_refused", REASONS)
    await browser.me(401)


async def test_an_id_token_has_to_be_there_and_of_the_provider(there: SigningIn) -> None:
    browser = there.browser()
    there.provider.token_answer = {"id_token": None}
    await there.refused(await browser.sign_in(there.provider, **GROUPS), "answer_unusable", REASONS)
    nonce = (await browser.leave())["nonce"]
    for forged in (
        signed(pair("k1"), there.provider.claims(nonce=nonce, **GROUPS)),
        there.provider.sign(there.provider.claims(nonce=nonce, **GROUPS), typ="at+jwt"),
        "a.b.c",
    ):
        there.provider.token_answer = {"id_token": forged}
        await there.refused(await browser.sign_in(there.provider, **GROUPS), "token_refused", REASONS)


async def test_an_answer_of_another_issuer_is_refused(there: SigningIn) -> None:
    browser = there.browser()
    code = there.provider.give_code(await browser.leave(), **GROUPS)
    await there.refused(await browser.come_back(code=code, iss="https://else.example"), "wrong_issuer", REASONS)
    code = there.provider.give_code(await browser.leave(), **GROUPS)
    assert (await browser.come_back(code=code, iss=there.provider.url)).status_code == 303
    # if it is announced (RFC 9207), it has to be there
    there.provider.metadata = {"authorization_response_iss_parameter_supported": True}
    there.world.clock.forward(hours=2)
    code = there.provider.give_code(await browser.leave(), **GROUPS)
    await there.refused(await browser.come_back(code=code), "wrong_issuer", REASONS)


async def test_a_provider_without_s256_is_not_used(there: SigningIn) -> None:
    there.provider.metadata = {"code_challenge_methods_supported": ["plain"]}
    answer = await there.browser().http.get("/login/oidc/entra")
    await there.refused(answer, "answer_unusable", REASONS)


@pytest.mark.parametrize(
    "asked",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/console/../x",
        "/v1/keys",
        "/console\n",
        "/proxy/a",
    ],
)
async def test_nobody_is_led_elsewhere_by_a_sign_in(asked: str, there: SigningIn) -> None:
    browser = there.browser()
    answer = await browser.come_back(code=there.provider.give_code(await browser.leave(to=asked), **GROUPS))
    assert answer.headers["Location"] == "/console"


async def test_the_sign_in_page_offers_the_provider_and_leads_back(there: SigningIn) -> None:
    for page, more in (("/login", ""), ("/login/again", "&amp;again=1")):
        shown = (await there.browser().http.get(page, params={"to": "/console/keys"})).text
        assert f'href="/login/oidc/entra?to=%2Fconsole%2Fkeys{more}">Gridwise<' in shown


async def test_a_new_session_takes_the_place_of_the_browsers_previous_one(there: SigningIn) -> None:
    browser = await let_in(there)
    planted = browser.http.cookies["keybroker"]
    assert (await browser.sign_in(there.provider, **GROUPS)).status_code == 303
    assert browser.http.cookies["keybroker"] != planted
    other = there.browser()
    other.http.cookies.set("keybroker", planted)
    await other.me(401)


async def test_a_command_lines_page_is_come_back_to(there: SigningIn) -> None:
    browser, asked = there.browser(), "/login/cli?port=4711&state=a-b_c&challenge=x"
    answer = await browser.come_back(code=there.provider.give_code(await browser.leave(to=asked), **GROUPS))
    assert answer.headers["Location"] == asked


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"groups": []}, "no_role"),
        ({"groups": ["elsewhere"]}, "no_role"),
        ({"groups": OPERATORS.upper()}, "no_role"),
        ({}, "claim_missing"),
        ({"groups": {OPERATORS: True}}, "claim_missing"),
        ({"groups": [OPERATORS, 7]}, "claim_missing"),
        ({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {}}}, "claim_overage"),
        ({"hasgroups": True}, "claim_overage"),
        ({"groups": [OPERATORS, ACME]}, ""),
        ({"groups": [ADMINS, ACME]}, "roles_mixed"),
        ({"groups": [ACME]}, "no_role"),  # there is no acme here
    ],
)
async def test_only_a_mapped_group_lets_somebody_in(claims: dict[str, Any], reason: str, there: SigningIn) -> None:
    browser = there.browser()
    answer = await browser.sign_in(there.provider, **claims)
    if not reason:
        assert answer.status_code == 303
        return
    await there.refused(answer, reason, REASONS)
    names = [one["name"] for one in await there.world.items("/v1/operators")]
    assert names == ["ada"]


async def test_a_group_limits_its_people_to_its_customers(there: SigningIn) -> None:
    acme = await there.world.organization("acme")
    browser = await let_in(there, groups=[ACME])
    me = await browser.me()
    assert (me["roles"], me["organizations"]) == (["operator"], [acme["id"]])


async def test_who_somebody_is_depends_on_no_name_or_address(there: SigningIn) -> None:
    olga = await let_in(there, sub="olga", email="olga@vendor.example", preferred_username="olga")
    # when somebody else says that they have the same address and name, or an admin's
    other = await let_in(there, sub="mallory", email="olga@vendor.example", preferred_username="olga")
    third = await let_in(there, sub="third", preferred_username="ada")
    # then each has an account of their own
    accounts = [await browser.me() for browser in (olga, other, third)]
    assert len({one["id"] for one in accounts}) == 3
    assert accounts[0]["name"] == "olga"
    assert all(one["roles"] == ["operator"] for one in accounts)
    assert {one["name"] for one in accounts}.isdisjoint({"ada"})


async def test_a_fresh_proof_is_asked_for_and_compared(there: SigningIn) -> None:
    # given somebody who signed in at the provider an hour ago
    browser = await let_in(there, auth_time=there.provider.second - 3_600)
    # when they prove that it is they
    assert (await browser.leave(again="1"))["max_age"] == "300"
    for claims in ({"auth_time": there.provider.second - 3_600}, {"auth_time": None}, {"auth_time": True}):
        await there.refused(await browser.again(there.provider, **GROUPS, **claims), "signed_in_too_long_ago", REASONS)
    before = browser.http.cookies["keybroker"]
    session = (await browser.http.get("/v1/sessions")).json()["items"][0]
    assert (await browser.again(there.provider, **GROUPS)).status_code == 303
    # then it is the same session, with another token
    renewed = (await browser.http.get("/v1/sessions")).json()["items"]
    assert [one["id"] for one in renewed] == [session["id"]]
    assert renewed[0]["authenticated_at"] > session["authenticated_at"]
    assert browser.http.cookies["keybroker"] != before


async def test_nobody_else_proves_that_it_is_the_same_person(there: SigningIn) -> None:
    browser = await let_in(there)
    await let_in(there, sub="mallory")
    await there.refused(await browser.again(there.provider, **GROUPS, sub="mallory"), "somebody_else", REASONS)
    await there.refused(await browser.again(there.provider, **GROUPS, sub="new"), "somebody_else", REASONS)


async def test_who_is_not_asked_when_they_proved_it_has_no_fresh_session(there: SigningIn) -> None:
    browser = await let_in(there, groups=[ADMINS], auth_time=None)
    headers = {"Sec-Fetch-Site": "same-origin"}
    wanted = {"name": "eve", "roles": ["admin"]}
    answer = await browser.http.post("/v1/operators", json=wanted, headers=headers)
    assert answer.json()["code"] == "reauthentication_needed"


async def test_an_admin_who_comes_by_a_group_waits_for_a_second_person(tmp_path: Path, database_url: str) -> None:
    async with signing_in(tmp_path, database_url, reveal_approval="on") as there:
        browser = there.browser()
        await there.refused(await browser.sign_in(there.provider, groups=[ADMINS]), "account_waits", REASONS)
        waiting = next(one for one in await there.world.items("/v1/operators") if one["name"] != "ada")
        await there.world.call("POST", f"/v1/operators/{waiting['id']}/approve")
        assert (await browser.sign_in(there.provider, groups=[ADMINS])).status_code == 303
        assert (await browser.me())["roles"] == ["admin"]
        # and so does an operator who becomes one, however long they are here
        operator = await let_in(there, sub="olga")
        await work(there, 20)
        there.world.clock.forward(hours=24 * 30)
        await there.refused(
            await operator.sign_in(there.provider, sub="olga", groups=[ADMINS]), "account_waits", REASONS
        )


async def test_a_group_that_is_gone_ends_access_within_ten_minutes(there: SigningIn) -> None:
    browser, stays = await let_in(there), await let_in(there, sub="stays")
    for claims in there.provider.refreshes.values():
        if claims["sub"] == "ada-1":
            claims["groups"] = []
    await work(there, 10)
    await browser.me(401)
    assert (await stays.me())["roles"] == ["operator"]
    reasons = [event["core"]["reason"] for event in await there.world.events(kind="session.ended")]
    assert reasons == ["roles_changed"]
    # and they don't get in again
    await there.refused(await browser.sign_in(there.provider, groups=[]), "no_role", REASONS)


async def test_a_group_that_is_gone_at_the_next_sign_in_ends_what_is_open(there: SigningIn) -> None:
    desk, other = await let_in(there), there.browser()
    await there.refused(await other.sign_in(there.provider, groups=["none"]), "no_role", REASONS)
    await desk.me(401)


async def test_other_groups_give_other_roles_and_end_sessions(there: SigningIn) -> None:
    browser = await let_in(there)
    for claims in there.provider.refreshes.values():
        claims["groups"] = [ADMINS]
    await work(there, 10)
    await browser.me(401)
    assert (await browser.sign_in(there.provider, groups=[ADMINS])).status_code == 303
    assert (await browser.me())["roles"] == ["admin"]


async def test_who_is_locked_out_at_the_provider_is_locked_out_here(there: SigningIn) -> None:
    browser = await let_in(there)
    there.provider.refreshes.clear()
    await work(there, 10)
    await browser.me(401)


async def test_a_provider_that_is_away_for_an_hour_vouches_for_nobody(there: SigningIn) -> None:
    browser = await let_in(there)
    there.provider.answers[TOKEN] = lambda: Response(status_code=503)
    for _ in range(4):
        await work(there, 12)
        await browser.me()
    await work(there, 25)
    await browser.me(401)


async def test_a_refresh_answer_without_groups_is_completed_by_userinfo(there: SigningIn) -> None:
    browser = await let_in(there)
    said: dict[str, Any] = {"sub": "ada-1", **GROUPS}
    there.provider.answers[TOKEN] = lambda: JSONResponse({"access_token": "at", "refresh_token": "next"})
    there.provider.answers[USERINFO] = lambda: JSONResponse(said)
    await work(there, 10)
    await browser.me()
    said["sub"] = "somebody else"
    await work(there, 10)
    await browser.me(401)


async def test_nobody_is_asked_about_who_has_left(there: SigningIn) -> None:
    await let_in(there)
    there.world.clock.forward(hours=1)  # the browser was left alone
    asked = there.provider.asked[TOKEN]
    await work(there, 2)
    assert there.provider.asked[TOKEN] == asked
    async with there.world.services.parts.db.read(EVERY_TENANT) as session:
        assert not (await session.scalars(select(RecheckRow))).all()


async def test_who_can_not_be_asked_about_later_is_not_let_in(there: SigningIn) -> None:
    there.provider.token_answer = {"refresh_token": None}
    await there.refused(await there.browser().sign_in(there.provider, **GROUPS), "cannot_be_checked", REASONS)


async def test_a_link_that_somebody_else_wrote_lets_nobody_in(there: SigningIn) -> None:
    await let_in(there)
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(IdentityRow).values(subject="mallory"))
    browser = there.browser()
    assert (await browser.sign_in(there.provider, sub="mallory", **GROUPS)).status_code == 503
    await browser.me(401)


async def linked(there: SigningIn, account: str, status: int = 200, **more: str) -> None:
    wanted = {"provider": "entra", "subject": "ada-1", **more}
    await there.world.call("POST", f"/v1/operators/{account}/identity", json=wanted, status=status)


async def test_an_admin_links_somebody_to_an_account_that_is_there(there: SigningIn) -> None:
    ada = (await there.world.call("GET", "/v1/operators/me"))["id"]
    await linked(there, ada)
    await linked(there, ada)
    browser = await let_in(there, groups=[ADMINS])
    assert (await browser.me())["id"] == ada
    # but nobody takes the account of somebody who has one
    await let_in(there, sub="olga")
    await linked(there, ada, subject="olga", status=409)
    await linked(there, ada, provider="unknown", status=404)
    machine = await there.world.call(
        "POST", "/v1/operator-tokens", status=201, json={"name": "bot", "roles": ["operator"]}
    )
    await linked(there, machine["operator"]["id"], status=409)


async def test_nobody_links_somebody_to_an_account_that_could_approve_what_they_ask_for(
    tmp_path: Path, database_url: str
) -> None:
    """They would choose who at the provider it is."""
    async with signing_in(tmp_path, database_url, reveal_approval="on") as there:
        token = await bootstrap_token(there.world.services, replace=True)
        made = await there.world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": "bea"})
        await linked(there, made["operator"]["id"], status=403)
        await linked(there, (await there.world.call("GET", "/v1/operators/me"))["id"])


async def test_an_admin_unlinks_somebody_and_it_is_clear_whose_account_is_whose(there: SigningIn) -> None:
    browser = await let_in(there)
    me = await browser.me()
    (known,) = await there.world.items("/v1/identities", operator=me["name"])
    assert (known["operator"], known["subject"]) == (me["id"], "ada-1")
    assert (await browser.http.get("/v1/identities")).json()["items"] == [known]
    await there.world.call("POST", f"/v1/identities/{known['id']}/unlink")
    await there.world.call("POST", f"/v1/identities/{known['id']}/unlink", status=404)
    # then the person is out, and nobody is asked about them
    await browser.me(401)
    asked = there.provider.asked[TOKEN]
    await work(there, 10)
    assert there.provider.asked[TOKEN] == asked
    (event,) = await there.world.events(kind="operator.unlinked")
    assert (event["core"]["subject"], event["core"]["provider"]) == (me["id"], "entra")
    assert event["personal"]["note"] == f"{me['name']}: ada-1"
    # and who comes by the provider again has another account
    assert (await (await let_in(there)).me())["id"] != me["id"]


async def test_nobody_unlinks_themselves_or_somebody_beyond_their_limits(there: SigningIn) -> None:
    await there.world.organization("acme")
    ada = (await there.world.call("GET", "/v1/operators/me"))["id"]
    await linked(there, ada)
    (mine,) = await there.world.items("/v1/identities")
    refused = await there.world.call("POST", f"/v1/identities/{mine['id']}/unlink", status=403)
    assert "Another admin" in refused["detail"]
    limited = await there.world.operator("acme-admin", "admin", organizations=["acme"])
    await there.world.call("POST", f"/v1/identities/{mine['id']}/unlink", as_=limited, status=404)
    await there.world.call("GET", "/v1/identities", as_=limited, params={"operator": ada}, status=404)
    security = await there.world.operator("sam", "security")
    await there.world.call("GET", "/v1/identities", as_=security, params={"operator": ada}, status=403)
    assert await there.world.items("/v1/identities") == [mine]


async def test_who_comes_back_is_linked_to_another_account(there: SigningIn) -> None:
    browser = await let_in(there)
    ended = (await browser.me())["id"]
    await there.world.call("POST", f"/v1/operators/{ended}/revoke", json={})
    fresh = await there.world.call("POST", "/v1/operators", status=201, json={"name": "olga", "roles": ["operator"]})
    await linked(there, fresh["operator"]["id"])
    assert (await (await let_in(there)).me())["name"] == "olga"


async def test_an_account_that_has_ended_lets_nobody_in(there: SigningIn) -> None:
    browser = await let_in(there)
    account = (await browser.me())["id"]
    await there.world.call("POST", f"/v1/operators/{account}/revoke", json={})
    await browser.me(401)
    await there.refused(await browser.sign_in(there.provider, **GROUPS), "account_ended", REASONS)


async def test_people_see_whether_a_provider_answers(there: SigningIn) -> None:
    async def seen() -> tuple[bool, bool, str]:
        (one,) = await there.world.items("/v1/sign-in-providers")
        assert (one["id"], one["issuer"]) == ("entra", there.provider.url)
        there.world.people.stay = True
        page = await there.world.http.get("/console/settings", headers=await in_browser(there.world, "ada"))
        return one["keys_at"] is not None, one["failing_since"] is not None, page.text

    keys, failing, page = await seen()
    assert (keys, failing, "not asked yet" in page) == (False, False, True)
    await let_in(there)
    assert (await seen())[:2] == (True, False)
    # when it answers no more, that is seen beside what it said last
    there.provider.answers["/.well-known/openid-configuration"] = lambda: Response(status_code=503)
    there.world.clock.forward(hours=2)
    await there.browser().http.get("/login/oidc/entra")
    keys, failing, page = await seen()
    assert (keys, failing, "failing" in page.lower()) == (True, True, True)
    there.provider.answers.clear()
    there.world.clock.forward(seconds=61)
    await let_in(there)
    assert (await seen())[:2] == (True, False)


async def test_a_provider_that_is_away_is_no_refusal(there: SigningIn) -> None:
    browser = there.browser()
    await browser.leave()
    there.provider.answers[TOKEN] = lambda: Response("<html>", 200)
    answer = await browser.come_back(code="x")
    assert answer.status_code == 503
    assert (await browser.http.get("/login/oidc/unknown")).status_code == 404


async def test_strangers_begin_few_sign_ins(there: SigningIn) -> None:
    browser = there.browser()
    answers = [(await browser.http.get("/login/oidc/entra")).status_code for _ in range(61)]
    assert answers == [303] * 60 + [429]


async def test_the_cookie_of_a_sign_in_is_no_scripts(there: SigningIn) -> None:
    answer = await there.browser().http.get("/login/oidc/entra")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("keybroker-sign-in=")
    assert {"HttpOnly", "SameSite=lax", "Max-Age=600", "Path=/"} <= {part.strip() for part in cookie.split(";")}
