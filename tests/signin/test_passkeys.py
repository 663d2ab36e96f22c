"""Passkeys: who is let in with one, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select, update

from broker.base.db import EVERY_TENANT
from broker.formats import base64url
from broker.identity.challenges import CeremonyOver, Challenges
from broker.identity.passkeys import MOST, WRONG
from broker.identity.tables import PasskeyRow, UsedCeremonyRow
from tests.signin.conftest import enrolled, invited
from tests.support.passkey import Device, Person
from tests.support.world import World

REFUSED = (401, "passkey_refused")
OVER = (409, "ceremony_over")


def outcome(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def kinds(world: World) -> list[str]:
    """The record but for who reads it."""
    return [event["core"]["kind"] for event in await recorded(world)]


async def recorded(world: World) -> list[dict[str, Any]]:
    return [event for event in await world.events() if event["core"]["kind"] != "audit.read"]


async def test_a_person_gets_in_by_a_link_once_and_by_their_passkey_from_then_on(world: World) -> None:
    link = await invited(world)
    grace = Person(world)
    assert (await grace.use(link)).status_code == 200
    assert (await grace.add("work laptop")).json()["name"] == "work laptop"
    grace.http.cookies.clear()
    assert await grace.who() is None
    assert (await grace.sign_in()).status_code == 200
    assert await grace.who() == "grace"
    found = await kinds(world)
    assert found[-3:] == ["passkey.added", "passkey.used", "session.begun"]


async def test_a_link_opens_once_and_not_after_its_day(world: World) -> None:
    link = await invited(world)
    assert (await Person(world).use(link)).status_code == 200
    assert (await Person(world).use(link)).status_code == 401
    other = await invited(world, "linus")
    world.clock.forward(hours=25)
    late = await Person(world).use(other)
    assert late.status_code == 401
    assert "broker operator link" in late.json()["detail"]


async def test_no_secret_of_a_session_or_a_link_is_in_an_answer(world: World) -> None:
    link, grace = await invited(world), Person(world)
    entered = await grace.use(link)
    (cookie,) = [one for name, one in grace.http.cookies.items() if name == "keybroker"]
    assert cookie.startswith("kbs_")
    assert cookie not in entered.text
    assert "httponly" in entered.headers["set-cookie"].lower()
    assert "samesite=lax" in entered.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "lie",
    [
        {"verified": False},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8081"},
        {"rp_id": "evil.example"},
        {"cross_origin": True},
    ],
    ids=["nobody was verified", "another site", "another port", "another host", "in a frame"],
)
async def test_a_proof_of_another_page_or_of_nobody_is_refused(
    world: World, grace: Person, lie: dict[str, Any]
) -> None:
    grace.http.cookies.clear()
    for name, value in lie.items():
        setattr(grace.device, name, value)
    assert outcome(await grace.sign_in()) == REFUSED
    assert await grace.who() is None


@pytest.mark.parametrize("lie", [{"verified": False}, {"origin": "https://evil.example"}, {"rp_id": "evil.example"}])
async def test_a_passkey_of_another_page_or_of_nobody_is_not_kept(world: World, lie: dict[str, Any]) -> None:
    grace = Person(world, Device(**lie))
    await grace.use(await invited(world))
    assert outcome(await grace.add()) == REFUSED
    assert (await grace.http.get("/v1/passkeys")).json()["items"] == []


async def test_a_challenge_is_answered_once(world: World, grace: Person) -> None:
    options = await grace.say("/login/passkey/begin")
    holder = dict(grace.http.cookies)
    answer = {"answer": grace.device.prove(options)}
    assert (await grace.send("/login/passkey/finish", answer)).status_code == 200
    for name, value in holder.items():
        if name.endswith("ceremony"):
            grace.http.cookies.set(name, value)
    assert outcome(await grace.send("/login/passkey/finish", answer)) == OVER


async def test_of_several_who_answer_one_challenge_at_once_one_is_let_in(world: World, grace: Person) -> None:
    options = await grace.say("/login/passkey/begin")
    answer = {"answer": grace.device.prove(options)}
    ceremony = {name: value for name, value in grace.http.cookies.items() if name.endswith("ceremony")}
    browsers = [Person(world) for _ in range(4)]
    for one in browsers:
        one.http.cookies.update(ceremony)
    answers = await asyncio.gather(*(one.send("/login/passkey/finish", answer) for one in browsers))
    assert sorted(one.status_code for one in answers) == [200, 409, 409, 409]


async def test_a_challenge_is_over_after_five_minutes(world: World, grace: Person) -> None:
    options = await grace.say("/login/passkey/begin")
    world.clock.forward(seconds=301)
    assert outcome(await grace.send("/login/passkey/finish", {"answer": grace.device.prove(options)})) == OVER


async def test_a_challenge_counts_in_the_browser_that_asked_for_it_alone(world: World, grace: Person) -> None:
    mallory = Person(world)
    await mallory.say("/login/passkey/begin")
    options = await grace.say("/login/passkey/begin")
    answer = {"answer": grace.device.prove(options)}
    assert outcome(await mallory.send("/login/passkey/finish", answer)) == OVER
    assert outcome(await Person(world).send("/login/passkey/finish", answer)) == OVER


async def test_a_challenge_for_one_thing_is_none_for_another(world: World, grace: Person) -> None:
    adding = await grace.say("/login/passkey/add/begin")
    await grace.say("/login/passkey/begin")
    assert outcome(await grace.send("/login/passkey/finish", {"answer": grace.device.prove(adding)})) == OVER
    challenges = Challenges(bytes(32), world.clock)
    with pytest.raises(CeremonyOver):  # whoever holds it
        challenges.check(challenges.new("add", "holder"), "sign-in", "holder")


async def test_a_challenge_that_the_broker_never_gave_out_is_refused(world: World, grace: Person) -> None:
    await grace.say("/login/passkey/begin")
    for made_up in ("", base64url.encode(bytes(40)), base64url.encode(bytes(32)), "%%"):
        answer = grace.device.prove({"challenge": made_up})
        assert (await grace.send("/login/passkey/finish", {"answer": answer})).status_code in {401, 409}


async def test_a_counter_that_goes_back_lets_nobody_in_and_is_on_the_record(world: World) -> None:
    grace = await enrolled(world, counts=True)
    assert (await grace.sign_in()).status_code == 200
    assert (await grace.sign_in()).status_code == 200
    (held,) = grace.device.held.values()
    held.count -= 1  # as that of a copy, which was made before the last time
    assert outcome(await grace.sign_in()) == REFUSED
    last = (await recorded(world))[-1]["core"]
    assert (last["kind"], last["decision"], last["reason"]) == ("passkey.refused", "denied", "counter_back")
    held.count += 2
    assert (await grace.sign_in()).status_code == 200


async def test_who_has_not_the_private_half_can_make_no_counter_go_back(world: World) -> None:
    grace = await enrolled(world, counts=True)
    await grace.sign_in()
    before = await kinds(world)
    (name,) = grace.device.held
    stranger = Person(world)
    stranger.device.make({"user": {"id": grace.device.held[name].handle}, "challenge": ""})
    stranger.device.held = {name: next(iter(stranger.device.held.values()))}
    assert outcome(await stranger.sign_in()) == REFUSED
    assert await kinds(world) == before


async def test_a_removed_passkey_lets_nobody_in(world: World, grace: Person) -> None:
    first = next(iter(grace.device.held))
    made = (await grace.http.get("/v1/passkeys")).json()["items"][0]["id"]
    assert (await grace.add("telephone")).status_code == 200
    assert (await grace.send(f"/v1/passkeys/{made}/remove")).status_code == 200
    grace.http.cookies.clear()
    assert outcome(await grace.sign_in(credential_id=first)) == REFUSED
    assert (await grace.sign_in()).status_code == 200


async def test_the_last_way_in_is_never_removed(world: World, grace: Person) -> None:
    await grace.add("telephone")
    ids = [one["id"] for one in (await grace.http.get("/v1/passkeys")).json()["items"]]
    answers = await asyncio.gather(*(grace.send(f"/v1/passkeys/{one}/remove") for one in ids))
    assert sorted(outcome(one) for one in answers) == [(200, ""), (409, "last_way_in")]
    assert len((await grace.http.get("/v1/passkeys")).json()["items"]) == 1


async def test_nobody_but_an_admin_sees_or_removes_somebody_elses(world: World, grace: Person) -> None:
    linus = await enrolled(world, "linus", "security")
    (theirs,) = (await grace.http.get("/v1/passkeys")).json()["items"]
    assert [one["id"] for one in (await linus.http.get("/v1/passkeys")).json()["items"]] != [theirs["id"]]
    for asked in ("rename", "remove"):
        answer = await linus.send(f"/v1/passkeys/{theirs['id']}/{asked}", {"name": "mine"})
        assert outcome(answer) == (404, "not_found")
    assert (await linus.http.get("/v1/passkeys", params={"operator": "grace"})).status_code == 403
    # and their names are theirs alone
    ada = await enrolled(world, "bea", "admin")
    assert outcome(await ada.send(f"/v1/passkeys/{theirs['id']}/rename", {"name": "mine"})) == (404, "not_found")


async def test_an_admin_removes_the_passkey_of_a_lost_device(world: World, grace: Person) -> None:
    (lost,) = await world.items("/v1/passkeys", operator="grace")
    assert (await world.call("POST", f"/v1/passkeys/{lost['id']}/remove"))["name"] == lost["name"]
    # then whoever has the device is out, and doesn't get in again
    assert await grace.who() is None
    assert outcome(await grace.sign_in()) == REFUSED
    (removed,) = await world.events(kind="passkey.removed")
    assert (removed["core"]["reason"], removed["personal"]["note"]) == ("removed_by_admin", f"grace: {lost['name']}")
    # and a link lets grace in
    link = (await world.call("POST", "/v1/operators/grace/link"))["link"]
    assert (await grace.use(link)).status_code == 200


async def test_an_admin_removes_nobodys_passkey_long_after_they_proved_who_they_are(
    world: World, grace: Person
) -> None:
    (mine,) = (await grace.http.get("/v1/passkeys")).json()["items"]
    world.people.stay = False
    world.clock.forward(seconds=301)
    refused = await world.call("POST", f"/v1/passkeys/{mine['id']}/remove", status=401)
    assert refused["code"] == "reauthentication_needed"


async def test_a_passkey_has_the_name_that_its_owner_gives_it(world: World, grace: Person) -> None:
    (made,) = (await grace.http.get("/v1/passkeys")).json()["items"]
    renamed = await grace.say(f"/v1/passkeys/{made['id']}/rename", {"name": "yellow key"})
    assert renamed == {**made, "name": "yellow key"}
    await grace.say(f"/v1/passkeys/{made['id']}/rename", {"name": "yellow key"})
    assert (await kinds(world)).count("passkey.renamed") == 1


async def test_a_passkey_of_an_ended_account_lets_nobody_in(world: World, grace: Person) -> None:
    await world.call("POST", f"/v1/operators/{await _id(world, 'grace')}/revoke")
    assert await grace.who() is None
    assert outcome(await grace.sign_in()) == REFUSED


async def test_a_passkey_that_the_broker_did_not_write_lets_nobody_in(world: World, grace: Person) -> None:
    linus = await enrolled(world, "linus")
    async with world.services.parts.db.write(
        EVERY_TENANT
    ) as session:  # somebody else makes the admin's passkey their own
        rows = (await session.scalars(select(PasskeyRow).order_by(PasskeyRow.id))).all()
        theirs = update(PasskeyRow).where(PasskeyRow.id == rows[1].id)
        await session.execute(theirs.values(account_id=rows[0].account_id))
    assert outcome(await linus.sign_in()) == REFUSED
    assert "right.altered" in await kinds(world)


async def test_a_sign_in_gives_another_session_than_the_browser_had(world: World, grace: Person) -> None:
    planted = grace.http.cookies["keybroker"]
    assert (await grace.sign_in()).status_code == 200
    assert grace.http.cookies["keybroker"] != planted
    old = Person(world)
    old.http.cookies.set("keybroker", planted)
    assert await old.who() is None


async def test_a_proof_that_it_is_still_the_same_person_makes_the_session_fresh(world: World, grace: Person) -> None:
    await grace.add("telephone")
    ids = [one["id"] for one in (await grace.http.get("/v1/passkeys")).json()["items"]]
    world.clock.forward(seconds=301)
    before = grace.http.cookies["keybroker"]
    for path in (f"/v1/passkeys/{ids[0]}/remove", "/login/passkey/add/begin"):
        assert outcome(await grace.send(path)) == (401, "reauthentication_needed")
    assert (await grace.sign_in("/login/again")).status_code == 200
    assert grace.http.cookies["keybroker"] != before
    assert (await grace.send(f"/v1/passkeys/{ids[0]}/remove")).status_code == 200
    assert len((await grace.http.get("/v1/sessions")).json()["items"]) == 1


async def test_somebody_elses_passkey_proves_nothing_of_who_is_signed_in(world: World, grace: Person) -> None:
    linus = await enrolled(world, "linus")
    grace.device = linus.device
    assert outcome(await grace.sign_in("/login/again")) == REFUSED
    assert await grace.who() == "grace"


async def test_who_guesses_is_refused_but_keeps_nobody_out(world: World, grace: Person) -> None:
    stranger = Person(world)
    stranger.device.make({"user": {"id": "AAAA"}, "challenge": ""})
    answers = [outcome(await stranger.sign_in()) for _ in range(WRONG + 1)]
    assert answers == [REFUSED] * WRONG + [(429, "too_many_requests")]
    assert (await grace.sign_in()).status_code == 200, "from the same address"


@pytest.mark.parametrize(
    "said", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}, {}]
)
async def test_a_page_of_another_site_can_ask_nothing(world: World, grace: Person, said: dict[str, str]) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/login/link": {"secret": "x"},
        "/login/passkey/begin": {},
        "/login/passkey/finish": {"answer": {}},
        "/login/again/begin": {},
        "/login/passkey/add/begin": {},
        "/logout": {},
    }
    for path, body in asked.items():
        answer = await grace.http.post(path, json=body, headers=said)
        assert outcome(answer) == (403, "cross_site"), path
    assert await grace.who() == "grace"


async def test_a_stranger_who_asks_fills_nothing(world: World, grace: Person) -> None:
    stranger, before = Person(world), await _rows(world)
    for _ in range(30):
        options = await stranger.say("/login/passkey/begin")
    assert outcome(await grace.send("/login/passkey/finish", {"answer": grace.device.prove(options)})) == OVER
    assert await _rows(world) == before


async def _rows(world: World) -> int:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return await session.scalar(select(func.count()).select_from(UsedCeremonyRow)) or 0


async def test_what_was_used_is_forgotten_a_day_later(world: World, grace: Person) -> None:
    await grace.sign_in()
    assert await _rows(world) == 2
    await world.work(hours=23)
    assert await _rows(world) == 2
    await world.work(hours=2)
    assert await _rows(world) == 0


async def test_a_person_has_so_many_passkeys_at_most(world: World, grace: Person) -> None:
    for _ in range(MOST - 1):
        assert (await grace.add()).status_code == 200
    assert (await grace.send("/login/passkey/add/begin")).status_code == 409


async def test_one_device_is_asked_for_one_passkey_of_a_person(world: World, grace: Person) -> None:
    first, second = [await grace.say("/login/passkey/add/begin") for _ in range(2)]
    assert first["user"]["id"] == second["user"]["id"]
    assert await _id(world, "grace") not in str(first)
    assert [one["id"] for one in first["excludeCredentials"]] == [base64url.encode(one) for one in grace.device.held]
    assert first["attestation"] == "none"
    assert first["authenticatorSelection"]["residentKey"] == "required"
    assert first["authenticatorSelection"]["userVerification"] == "required"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"response": 1, "rawId": 2},
        {"rawId": "AA", "id": "AA", "type": "public-key", "response": {"clientDataJSON": "W1tb" * 5_000}},
        {"rawId": "A" * 60_000, "response": {}},
        {"rawId": "%%", "response": {"clientDataJSON": "\ud800".encode("utf-16", "surrogatepass").hex()}},
    ],
)
async def test_an_answer_that_is_none_is_refused(world: World, grace: Person, answer: dict[str, Any]) -> None:
    await grace.say("/login/passkey/begin")
    assert outcome(await grace.send("/login/passkey/finish", {"answer": answer})) == REFUSED
    assert outcome(await grace.send("/login/passkey/add/finish", {"answer": answer, "name": "x"})) == REFUSED


async def test_a_machine_and_a_command_line_make_no_passkeys(world: World) -> None:
    answer = await world.http.post("/login/passkey/add/begin", headers=world.admin)
    assert outcome(answer) == (403, "browser_needed")


async def _id(world: World, name: str) -> str:
    (found,) = [one["id"] for one in await world.items("/v1/operators") if one["name"] == name]
    return str(found)
