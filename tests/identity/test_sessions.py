"""People's sessions: how they begin, what they are good for, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import func, select, text, update

from broker.audit.events import BROKER
from broker.base.db import EVERY_TENANT
from broker.base.pairing import challenge_of
from broker.formats import base64url
from broker.formats.ids import OperatorId
from broker.identity import enrolment, sessions
from broker.identity.sessions import Client, Device, SignedIn, Way
from broker.identity.tables import AccountRow, LinkRow, SessionRow
from tests.support.waiting import eventually
from tests.support.world import World

ME = "/v1/operators/me"


async def invited(world: World, name: str = "olga", *roles: str) -> tuple[str, str]:
    """A new person's id, and the secret of the link to their account."""
    made = await world.call(
        "POST", "/v1/operators", status=201, json={"name": name, "roles": list(roles or ["operator"])}
    )
    return made["operator"]["id"], made["link"].partition("#")[2]


async def redeemed(world: World, secret: str, status: int = 201, **more: str) -> dict[str, str]:
    """The headers of a session that a link begins, or nothing if it is refused."""
    begun = await world.call("POST", "/v1/sessions", as_={}, status=status, json={"secret": secret, **more})
    return {"Authorization": f"Bearer {begun['token']}"} if status == 201 else {}


async def in_browser(world: World, name: str) -> dict[str, str]:
    """The cookie of a person who signed in to a browser."""
    key, now = world.services.parts.keys.token_hash, world.clock()
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        account = (await session.scalars(select(AccountRow).where(AccountRow.name == name))).one()
        device = Device(Client.BROWSER, "203.0.113.9", "Firefox")
        _, token = await sessions.begin(session, key, account, SignedIn(Way.PASSKEY, now), device, now)
    return {"Cookie": f"keybroker={token}"}


async def test_a_link_lets_its_person_in_once_and_for_a_day(world: World) -> None:
    account, secret = await invited(world)
    olga = await redeemed(world, secret)
    assert (await world.call("GET", ME, as_=olga))["id"] == account
    await redeemed(world, secret, 401)
    # one that nobody used in time
    _, late = await invited(world, "late")
    world.clock.forward(hours=24)
    await redeemed(world, late, 401)


async def test_however_many_use_a_link_at_once_one_has_it(world: World) -> None:
    _, secret = await invited(world)
    answers = await asyncio.gather(*(world.http.post("/v1/sessions", json={"secret": secret}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, *[401] * 7]


async def test_a_new_link_ends_those_before_it_and_needs_a_proof_that_it_is_the_admin(world: World) -> None:
    account, first = await invited(world)
    again = await world.call("POST", f"/v1/operators/{account}/link")
    await redeemed(world, first, 401)
    assert await redeemed(world, again["link"].partition("#")[2])
    world.people.stay = False
    world.clock.forward(seconds=301)
    refused = await world.call("POST", f"/v1/operators/{account}/link", status=401)
    assert refused["code"] == "reauthentication_needed"
    assert "`broker login`" in refused["detail"]


async def test_a_link_to_an_account_that_has_ended_or_is_a_machines_is_none(world: World) -> None:
    account, secret = await invited(world)
    await world.call("POST", f"/v1/operators/{account}/revoke")
    await redeemed(world, secret, 401)
    await world.call("POST", f"/v1/operators/{account}/link", status=409)
    machine = await world.call("GET", ME, as_=await world.machine("night", "security"))
    refused = await world.call("POST", f"/v1/operators/{machine['id']}/link", status=409)
    assert "machine" in refused["detail"]


async def test_a_code_for_the_command_line_needs_its_verifier_within_a_minute(world: World) -> None:
    verifier = secrets.token_urlsafe(32)
    challenge = base64url.encode(hashlib.sha256(verifier.encode()).digest())
    await invited(world)
    key = world.services.parts.keys.token_hash

    async def handed_over() -> str:
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            account = (await session.scalars(select(AccountRow).where(AccountRow.name == "olga"))).one()
            proof = SignedIn(Way.OIDC, world.clock(), "https://idp.example", "s-1")
            return enrolment.hand_over(session, key, account, proof, challenge, world.clock())

    code = await handed_over()
    await redeemed(world, code, 401)
    await redeemed(world, code, 401, verifier=secrets.token_urlsafe(32))
    olga = await redeemed(world, code, verifier=verifier)
    (mine,) = (await world.call("GET", "/v1/sessions", as_=olga))["items"]
    assert (mine["way"], mine["issuer"], mine["client"], mine["present"]) == (
        "oidc",
        "https://idp.example",
        "cli",
        True,
    )
    late = await handed_over()
    world.clock.forward(seconds=60)
    await redeemed(world, late, 401, verifier=verifier)


async def test_a_session_ends_after_eight_hours_and_a_browsers_when_it_is_left(world: World) -> None:
    await invited(world, "bob", "security")
    olga, bob = await redeemed(world, (await invited(world))[1]), await in_browser(world, "bob")
    world.people.stay = False
    for _ in range(15):
        world.clock.forward(hours=0.49)
        for person in (olga, bob):
            await world.call("GET", ME, as_=person)
    left = await in_browser(world, "bob")
    world.clock.forward(hours=0.5)
    await world.call("GET", ME, as_=left, status=401)
    await world.call("GET", ME, as_=olga)
    world.clock.forward(hours=0.2)
    await world.call("GET", ME, as_=olga, status=401)


async def test_whoever_was_signed_out_does_nothing_any_more(world: World) -> None:
    account, secret = await invited(world)
    here = await redeemed(world, secret)
    there = await world.signed_in((await world.call("POST", f"/v1/operators/{account}/link"))["link"])
    assert len((await world.call("GET", "/v1/sessions", as_=here))["items"]) == 2
    assert (await world.call("POST", "/v1/sessions/end", as_=here))["ended"] == 1
    await world.call("GET", ME, as_=there, status=401)
    (mine,) = (await world.call("GET", "/v1/sessions", as_=here))["items"]
    await world.call("POST", f"/v1/sessions/{mine['id']}/end", as_=here)
    await world.call("GET", ME, as_=here, status=401)
    reasons = [
        (event["core"]["subject"], event["core"]["reason"]) for event in await world.events(kind="session.ended")
    ]
    assert reasons == [(account, "signed_out")] * 2


async def test_an_admin_looks_at_others_sessions_and_ends_them_and_nobody_else_does(world: World) -> None:
    account, secret = await invited(world)
    olga = await redeemed(world, secret)
    (hers,) = (await world.call("GET", "/v1/sessions", params={"operator": account}))["items"]
    eve = await world.operator("eve", "security")
    await world.call("GET", "/v1/sessions", as_=eve, params={"operator": account}, status=403)
    await world.call("POST", f"/v1/sessions/{hers['id']}/end", as_=eve, status=404)
    await world.organization("acme")
    limited = await world.operator("acme-admin", "admin", organizations=["acme"])
    await world.call("POST", f"/v1/sessions/{hers['id']}/end", as_=limited, status=404)
    await world.call("GET", ME, as_=olga)
    await world.call("POST", f"/v1/sessions/{hers['id']}/end")
    await world.call("GET", ME, as_=olga, status=401)
    (ended,) = await world.events(kind="session.ended")
    assert ended["core"]["reason"] == "ended_by_admin"


async def test_a_change_that_was_under_way_when_its_session_was_ended_changes_nothing(world: World) -> None:
    _, secret = await invited(world)
    olga = await redeemed(world, secret)
    mine = (await world.call("GET", "/v1/sessions", as_=olga))["items"][0]["id"]
    token = olga["Authorization"].removeprefix("Bearer ")
    db, now = world.services.parts.db, world.clock()
    async with db.read(EVERY_TENANT) as session:  # the request was let in
        assert await sessions.find(session, world.services.parts.keys.token_hash, token, now)
    await world.call("POST", f"/v1/sessions/{mine}/end")
    async with db.write(EVERY_TENANT) as session:
        with pytest.raises(sessions.NoSuchSession):
            await sessions.insist(session, mine, now)


@pytest.mark.parametrize("ends", ["one", "others", "passkey", "provider"])
async def test_a_code_for_the_command_line_ends_with_the_session_that_handed_it_over(world: World, ends: str) -> None:
    account, secret = await invited(world)
    olga, browser = await redeemed(world, secret), await in_browser(world, "olga")
    here = next(one for one in await world.items("/v1/sessions", operator=account) if one["client"] == "browser")
    verifier = secrets.token_urlsafe(32)
    asked = {"port": "50000", "state": "s" * 16, "challenge": challenge_of(verifier), "host": "there", "allow": "yes"}
    same = {**browser, "Sec-Fetch-Site": "same-origin"}
    handed = await world.http.post("/login/cli", data=asked, headers=same)
    (code,) = parse_qs(urlsplit(handed.headers["location"]).query)["code"]
    if ends == "one":
        await world.call("POST", f"/v1/sessions/{here['id']}/end")
    elif ends == "others":
        await world.call("POST", "/v1/sessions/end", as_=olga)
    else:
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            hers, now = OperatorId(account), world.clock()
            if ends == "passkey":
                await sessions.end_of_account(session, BROKER, hers, now, reason="passkey_removed")
            else:
                await sessions.end_of_issuer(session, "", account=hers, now=now)
    await redeemed(world, code, 401, verifier=verifier)


async def test_what_begins_while_all_sessions_of_a_person_are_ended_is_ended_with_them(world: World) -> None:
    """A command line that redeems its code just then is in or is refused, and is out afterwards."""
    account, secret = await invited(world)
    await redeemed(world, secret)
    db, key, now = world.services.parts.db, world.services.parts.keys.token_hash, world.clock()
    proof, verifier = SignedIn(Way.PASSKEY, now), secrets.token_urlsafe(32)

    async def redeem(code: str) -> None:
        async with db.write(EVERY_TENANT) as session:
            owner, proved = await enrolment.redeem(session, key, code, now, verifier=verifier)
            redeeming.set()
            await sessions.begin(session, key, owner, proved, Device(Client.CLI, "203.0.113.9", "cli"), now)
            if db.dialect == "postgresql":  # where the other one goes on as far as it can
                await eventually(ends_waits)

    async def ends_waits() -> bool:
        async with db.read(EVERY_TENANT) as session:
            return bool(await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    async def end() -> None:
        await redeeming.wait()
        async with db.write(EVERY_TENANT) as session:
            await sessions.end_of_account(session, BROKER, OperatorId(account), now, reason="passkey_removed")

    async with db.write(EVERY_TENANT) as session:
        owner = await session.get_one(AccountRow, account)
        code = enrolment.hand_over(session, key, owner, proof, challenge_of(verifier), now)
    redeeming = asyncio.Event()
    await asyncio.gather(redeem(code), end())
    assert await world.items("/v1/sessions", operator=account) == []


async def test_an_account_that_is_ended_ends_its_sessions(world: World) -> None:
    account, secret = await invited(world)
    olga = await redeemed(world, secret)
    browser = await in_browser(world, "olga")
    await world.call("POST", f"/v1/operators/{account}/revoke")
    for person in (olga, browser):
        await world.call("GET", ME, as_=person, status=401)


async def test_whoever_writes_the_database_gives_nobody_a_session_or_a_link(world: World) -> None:
    account, secret = await invited(world)
    olga = await redeemed(world, secret)
    ada = (await world.call("GET", ME))["id"]
    other = (await world.call("POST", f"/v1/operators/{account}/link"))["link"].partition("#")[2]
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(SessionRow).where(SessionRow.account_id == account).values(account_id=ada))
        await session.execute(update(LinkRow).where(LinkRow.account_id == account).values(account_id=ada))
    await world.call("GET", ME, as_=olga, status=401)
    await redeemed(world, other, 401)
    assert [event["core"]["kind"] for event in await world.events(kind="right.altered")] == ["right.altered"]


async def test_a_cookie_is_taken_from_our_own_pages_alone_and_a_token_from_its_own_client(world: World) -> None:
    await world.organization("acme")
    await invited(world, "bob", "operator")
    bob = await in_browser(world, "bob")
    job = {"name": "Acme", "slug": "b"}
    assert (await world.call("GET", ME, as_=bob))["name"] == "bob"
    ours = {"Sec-Fetch-Site": "same-origin"}
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"},
                    {"Origin": "https://evil.example"}):  # fmt: skip
        refused = await world.call("POST", "/v1/organizations", as_={**bob, **headers}, status=403, json=job)
        assert refused["code"] == "cross_site"
    await world.call("POST", "/v1/organizations", as_={**bob, **ours}, status=201, json=job)
    origin = {"Origin": "http://127.0.0.1:8080"}
    await world.call("POST", "/v1/organizations", as_={**bob, **origin}, status=201, json={"name": "C", "slug": "c"})
    # a cookie's token is no bearer token, and the other way round
    token = bob["Cookie"].removeprefix("keybroker=")
    await world.call("GET", ME, as_={"Authorization": f"Bearer {token}"}, status=401)
    of_cli = world.admin["Authorization"].removeprefix("Bearer ")
    await world.call("GET", ME, as_={"Cookie": f"keybroker={of_cli}"}, status=401)
    # and a request has one caller: who brings a token is its holder
    assert (await world.call("GET", ME, as_={**bob, **world.admin}))["name"] == "ada"


FRESH = [
    ("POST", "/v1/operators", {"name": "eve", "roles": ["admin"]}),
    ("POST", "/v1/operators", {"name": "eve", "roles": ["operator"]}),
    ("POST", "/v1/operator-tokens", {"name": "eve", "roles": ["security"]}),
    ("POST", "/v1/operators/opr_00000000000000000000000000000000/link", None),
    ("POST", "/v1/operators/opr_00000000000000000000000000000000/approve", None),
    ("POST", "/v1/operators/opr_00000000000000000000000000000000/erase", None),
    ("POST", "/v1/organizations/acme/revoke", {"reason": "over"}),
    ("POST", "/v1/organizations/acme/erase", None),
    ("POST", "/v1/grants/grt_00000000000000000000000000000000/approve", None),
    ("POST", "/v1/credentials/crd_00000000000000000000000000000000/versions/1/destroy", None),
    ("GET", "/v1/audit/log/export", None),
]


@pytest.mark.parametrize(("method", "path", "body"), FRESH)
async def test_what_can_do_harm_needs_a_person_who_just_proved_who_they_are(
    world: World, method: str, path: str, body: object
) -> None:
    more: dict[str, Any] = {"json": body} if body else {}
    machine = await world.machine("night", "admin")
    assert (await world.call(method, path, as_=machine, status=403, **more))["code"] == "person_needed"
    world.people.stay = False
    world.clock.forward(seconds=300)
    assert (await world.http.get(ME, headers=world.admin)).status_code == 200
    response = await world.http.request(method, path, headers=world.admin, **more)
    assert (response.status_code, response.json()["code"]) == (401, "reauthentication_needed")
    assert "max_age=300" in response.headers["WWW-Authenticate"]


async def test_what_is_over_is_forgotten_a_day_later_and_with_its_person(world: World) -> None:
    async def kept() -> tuple[int, int]:
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            theirs = [row.account_id == account for row in (SessionRow, LinkRow)]
            counts = [await session.scalar(select(func.count()).where(one)) for one in theirs]
        return counts[0] or 0, counts[1] or 0

    account, secret = await invited(world)
    await redeemed(world, secret)
    await world.call("POST", f"/v1/operators/{account}/link")
    assert await kept() == (1, 1)
    world.people.stay = False
    duties = world.broker.worker.duties
    for hours, left in ((24 + 7, (1, 1)), (2, (0, 1)), (24 - 8, (0, 0))):
        world.clock.forward(hours=hours)
        await duties["forget_sessions"].run()
        await duties["forget_links"].run()
        assert await kept() == left
    # whose account is erased
    world.admin = await in_browser(world, "ada") | {"Sec-Fetch-Site": "same-origin"}
    await world.call("POST", f"/v1/operators/{account}/link")
    await in_browser(world, "olga")
    assert await kept() == (1, 1)
    await world.call("POST", f"/v1/operators/{account}/revoke")
    await world.call("POST", f"/v1/operators/{account}/erase")
    assert await kept() == (0, 0)
