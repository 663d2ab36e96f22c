"""A command line without a browser: what it is told while it waits, who lets it in, and how often (RFC 8628)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, update

from broker.base.db import EVERY_TENANT
from broker.base.pairing import LETTERS
from broker.identity import device_sign_in
from broker.identity.duties import duties
from broker.identity.tables import AccountRow, DeviceSignInRow, SessionRow
from tests.erasure.test_erasing import everything
from tests.identity.test_sessions import ME, in_browser, invited
from tests.support.world import World, running_world, settings_for, upstream

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
PAGE = "/login/device"
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, database_url, url, login_device=True)
        async with running_world(settings, state, url) as made:
            await invited(made)
            yield made


async def begun(world: World) -> dict[str, Any]:
    answer = await world.http.post("/oauth/device_authorization", data={"client_id": "broker-cli"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return dict(answer.json())


async def ask(world: World, secret: str, **more: str) -> httpx2.Response:
    form = {"grant_type": DEVICE, "client_id": "broker-cli", "device_code": secret, **more}
    return await world.http.post("/oauth/token", data=form)


async def told(world: World, secret: str) -> str:
    """What a command line that waits is told."""
    answer = await ask(world, secret)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_description"]
    return str(answer.json()["error"])


async def send(world: World, who: Mapping[str, str], code: str, **more: str) -> httpx2.Response:
    """Type a code into the page, or answer what it asks."""
    return await world.http.post(PAGE, data={"code": code, **more}, headers={**who, **SAME})


async def test_a_command_line_is_signed_in_once_its_person_says_so(world: World) -> None:
    asked, olga = await begun(world), await in_browser(world, "olga")
    assert (asked["expires_in"], asked["interval"]) == (600, 5)
    assert asked["verification_uri"].endswith(PAGE)
    assert "verification_uri_complete" not in asked, "no address has the code in it"
    world.clock.forward(seconds=5)
    assert await told(world, asked["device_code"]) == "authorization_pending"
    # when she types the code, the page says who asks; only the answer lets it in
    shown = await send(world, olga, asked["user_code"].lower().replace("-", " "))
    assert shown.status_code == 200
    assert "127.0.0.1" in shown.text
    assert "only if you started this yourself" in shown.text
    world.clock.forward(seconds=5)
    assert await told(world, asked["device_code"]) == "authorization_pending"
    assert "is signed in" in (await send(world, olga, asked["user_code"], allow="yes")).text
    answer = await ask(world, asked["device_code"])
    assert (answer.status_code, answer.json()["token_type"]) == (200, "Bearer")
    assert 0 < answer.json()["expires_in"] <= 8 * 3_600
    terminal = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await world.call("GET", ME, as_=terminal))["name"] == "olga"
    (present,) = [one for one in (await world.call("GET", "/v1/sessions", as_=terminal))["items"] if one["present"]]
    assert (present["client"], present["way"]) == ("cli", "passkey")
    # and it is on the record, with where the person sat
    (answered,) = await world.events(kind="session.device_answered")
    assert answered["core"]["decision"] == "allowed"
    assert (await world.events(kind="session.begun"))[-1]["core"]["subject"] == answered["core"]["subject"]


@pytest.mark.parametrize("roles", [["admin"], ["operator", "security"]])
async def test_its_session_gives_and_destroys_nothing_that_needs_a_fresh_person(
    world: World, roles: Sequence[str]
) -> None:
    """Not even an account with fewer roles: by its link a stranger would be somebody who proves who they are."""
    terminal = await let_in(world, "ada")
    refused = await world.call("POST", "/v1/operators", as_=terminal, status=401, json={"name": "x", "roles": roles})
    assert refused["code"] == "reauthentication_needed"


async def let_in(world: World, name: str) -> dict[str, str]:
    """The headers of a command line that a person let in by a code."""
    asked = await begun(world)
    await send(world, await in_browser(world, name), asked["user_code"], allow="yes")
    answer = await ask(world, asked["device_code"])
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_code_is_used_once_however_many_ask_at_once(world: World) -> None:
    asked, olga = await begun(world), await in_browser(world, "olga")
    await send(world, olga, asked["user_code"], allow="yes")
    answers = await asyncio.gather(*(ask(world, asked["device_code"]) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 7]
    assert await told(world, asked["device_code"]) == "invalid_grant"
    assert (await send(world, olga, asked["user_code"], allow="yes")).status_code == 404


async def test_one_replica_begins_another_is_answered_and_any_lets_it_in(
    world: World, tmp_path: Path, database_url: str
) -> None:
    """Two processes on one database."""
    settings = settings_for(tmp_path, database_url, world.upstream_url, login_device=True)
    other_world = running_world(settings, world.upstream, world.upstream_url, bootstrap=False, clock=world.clock)
    async with other_world as other:
        asked = await begun(world)
        world.clock.forward(seconds=5)
        assert await told(other, asked["device_code"]) == "authorization_pending"
        assert await told(world, asked["device_code"]) == "slow_down"
        await send(other, await in_browser(world, "olga"), asked["user_code"], allow="yes")
        answers = await asyncio.gather(*(ask(one, asked["device_code"]) for one in (world, other) * 3))
        assert sorted(answer.status_code for answer in answers) == [200, *[400] * 5]


async def test_a_refusal_ends_it(world: World) -> None:
    asked, olga = await begun(world), await in_browser(world, "olga")
    assert "refused" in (await send(world, olga, asked["user_code"], allow="no")).text
    assert await told(world, asked["device_code"]) == "access_denied"
    assert (await send(world, olga, asked["user_code"], allow="yes")).status_code == 404
    (event,) = await world.events(kind="session.device_answered")
    assert event["core"]["decision"] == "denied"


async def test_nobody_is_in_time_after_ten_minutes(world: World) -> None:
    asked = await begun(world)
    world.clock.forward(seconds=600)
    assert await told(world, asked["device_code"]) == "expired_token"
    assert (await send(world, await in_browser(world, "olga"), asked["user_code"], allow="yes")).status_code == 404


async def test_what_was_allowed_and_not_asked_for_is_over_after_a_minute(world: World) -> None:
    asked = await begun(world)
    await send(world, await in_browser(world, "olga"), asked["user_code"], allow="yes")
    world.clock.forward(seconds=60)
    assert await told(world, asked["device_code"]) == "expired_token"


async def test_who_asks_too_often_is_told_to_slow_down(world: World) -> None:
    secret = (await begun(world))["device_code"]
    assert await told(world, secret) == "slow_down"
    world.clock.forward(seconds=5)
    both = await asyncio.gather(told(world, secret), told(world, secret))
    assert sorted(both) == ["authorization_pending", "slow_down"]
    world.clock.forward(seconds=5)
    assert await told(world, secret) == "authorization_pending"


@pytest.mark.parametrize("ends", ["session", "account"])
async def test_it_is_not_let_in_by_a_person_who_left_meanwhile(world: World, ends: str) -> None:
    asked, olga = await begun(world), await in_browser(world, "olga")
    me = await world.call("GET", ME, as_=olga)
    await send(world, olga, asked["user_code"], allow="yes")
    what = f"sessions/{me['session']['id']}/end" if ends == "session" else f"operators/{me['id']}/revoke"
    await world.call("POST", f"/v1/{what}")
    assert await told(world, asked["device_code"]) == "access_denied"


async def test_where_an_erased_person_let_a_command_line_in_is_forgotten(world: World) -> None:
    terminal = {"User-Agent": "olga's very own terminal"}
    answer = await world.http.post("/oauth/device_authorization", data={"client_id": "broker-cli"}, headers=terminal)
    await send(world, await in_browser(world, "olga"), answer.json()["user_code"], allow="yes")
    # given that it never asks for its session
    olga = next(one["id"] for one in await world.items("/v1/operators") if one["name"] == "olga")
    for act in ("revoke", "erase"):
        await world.call("POST", f"/v1/operators/{olga}/{act}")
    assert terminal["User-Agent"] not in await everything(world.services.parts.db)


async def test_codes_are_not_guessed(world: World) -> None:
    asked = await begun(world)
    assert re.fullmatch(f"[{LETTERS}]{{4}}-[{LETTERS}]{{4}}", asked["user_code"])
    olga = await in_browser(world, "olga")
    # what can be no code costs nothing
    assert (await send(world, olga, "AEIO-UAEI")).status_code == 404
    guesses = [(await send(world, olga, f"BBBB-BBB{letter}", allow="yes")).status_code for letter in LETTERS[:6]]
    assert guesses == [404] * device_sign_in.WRONG_MOST + [429]
    # then not even the right one is taken from her, but from others
    assert (await send(world, olga, asked["user_code"], allow="yes")).status_code == 429
    assert (await send(world, await in_browser(world, "ada"), asked["user_code"])).status_code == 200


async def test_strangers_begin_few(world: World) -> None:
    answers = [
        (await world.http.post("/oauth/device_authorization", data={"client_id": "broker-cli"})).status_code
        for _ in range(61)
    ]
    assert answers == [200] * 60 + [429]


async def test_the_page_is_for_who_is_signed_in_and_just_proved_it(world: World) -> None:
    stranger = await world.http.get(PAGE)
    assert (stranger.status_code, stranger.headers["location"]) == (303, f"/login?to={PAGE}")
    asked, olga = await begun(world), await in_browser(world, "olga")
    assert (await world.http.get(PAGE, headers=olga)).status_code == 200
    world.clock.forward(seconds=301)
    for answer in (await world.http.get(PAGE, headers=olga), await send(world, olga, asked["user_code"], allow="yes")):
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login/again?to={PAGE}")


async def test_no_address_and_no_other_site_answers_for_a_person(world: World) -> None:
    asked, olga = await begun(world), await in_browser(world, "olga")
    linked = await world.http.get(PAGE, params={"code": asked["user_code"]}, headers=olga)
    assert linked.status_code == 422
    form = {"code": asked["user_code"], "allow": "yes"}
    elsewhere = await world.http.post(PAGE, data=form, headers={**olga, "Sec-Fetch-Site": "cross-site"})
    assert elsewhere.status_code == 403
    world.clock.forward(seconds=5)
    assert await told(world, asked["device_code"]) == "authorization_pending"


async def test_the_database_holds_neither_code_nor_secret_and_lets_nobody_in(world: World) -> None:
    asked = await begun(world)
    await in_browser(world, "ada")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        row = (await session.scalars(select(DeviceSignInRow))).one()
        kept = " ".join(str(getattr(row, column.name)) for column in DeviceSignInRow.__table__.columns)
        assert asked["device_code"] not in kept
        assert asked["user_code"].replace("-", "") not in kept
        # when somebody writes there that the admin allowed it
        theirs = select(SessionRow.id).join(AccountRow, AccountRow.id == SessionRow.account_id)
        admins = await session.scalar(theirs.where(AccountRow.name == "ada", SessionRow.client == "browser"))
        await session.execute(update(DeviceSignInRow).values(session_id=admins))
    assert await told(world, asked["device_code"]) == "invalid_grant"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"device_code": "kbd_" + "x" * 49}, "invalid_grant"),
        ({"device_code": ""}, "invalid_grant"),
        ({"client_id": "other"}, "unauthorized_client"),
    ],
)
async def test_what_no_command_line_asks_is_refused(world: World, more: dict[str, str], error: str) -> None:
    answer = await ask(world, (await begun(world))["device_code"], **more)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_it_is_told_of_where_clients_look(world: World) -> None:
    told_of = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert told_of["device_authorization_endpoint"].endswith("/oauth/device_authorization")
    assert DEVICE in told_of["grant_types_supported"]


async def test_what_is_over_is_forgotten_a_day_later(world: World) -> None:
    await begun(world)
    db = world.services.parts.db
    duty = {one.name: one for one in duties(db, world.clock)}["forget_device_sign_ins"]

    async def rows() -> int:
        async with db.read(EVERY_TENANT) as session:
            return await session.scalar(select(func.count()).select_from(DeviceSignInRow)) or 0

    world.clock.forward(hours=24)
    await duty.run()
    assert await rows() == 1
    world.clock.forward(seconds=660)
    await duty.run()
    assert await rows() == 0


async def test_where_it_is_off_everything_says_what_to_do(tmp_path: Path, database_url: str) -> None:
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, database_url, url), state, url) as world,
    ):
        begin = await world.http.post("/oauth/device_authorization", data={"client_id": "broker-cli"})
        waits = await ask(world, "kbd_" + "x" * 49)
        page = await world.http.get(PAGE, headers=await in_browser(world, "ada"))
        metadata = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert (begin.status_code, begin.json()["error"]) == (400, "unauthorized_client")
    assert (waits.status_code, waits.json()["error"]) == (400, "unsupported_grant_type")
    for text in (begin.text, waits.text, page.text):
        assert "BROKER_LOGIN_DEVICE=true" in text
        assert "broker login" in text
    assert page.status_code == 404
    assert "device_authorization_endpoint" not in metadata
