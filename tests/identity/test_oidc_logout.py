"""A provider says that somebody has signed out there: whom that signs out here, and what is no such word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.issuer import pair, signed
from tests.support.signing_in import OPERATORS, Browser, SigningIn, signing_in

EVENTS: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}

_FOREIGN: tuple[dict[str, Any], ...] = ({"sid": "foreign"}, {"sid": None, "sub": "foreign"})


@pytest.fixture
async def there(tmp_path: Path, database_url: str) -> AsyncIterator[SigningIn]:
    async with signing_in(tmp_path, database_url) as made:
        yield made


async def let_in(there: SigningIn, **claims: Any) -> Browser:
    browser = there.browser()
    assert (await browser.sign_in(there.provider, groups=[OPERATORS], **claims)).status_code == 303
    return browser


def word(there: SigningIn, typ: str | None = "logout+jwt", **claims: Any) -> str:
    """A logout token; None leaves a claim out."""
    usual = {"sub": None, "auth_time": None, "jti": "j1", "events": EVENTS, "sid": "s1"}
    return there.provider.sign(there.provider.claims(**{**usual, **claims}), typ=typ)


async def tell(there: SigningIn, token: str) -> httpx2.Response:
    return await there.world.http.post("/logout/backchannel", data={"logout_token": token})


async def test_a_session_ends_that_the_provider_names(there: SigningIn) -> None:
    first, second = await let_in(there, sid="s1"), await let_in(there, sid="s2")
    assert (await tell(there, word(there))).status_code == 200
    await first.me(401)
    await second.me()


async def test_all_sessions_of_a_person_end_that_the_provider_names(there: SigningIn) -> None:
    first, second, other = await let_in(there, sid="s1"), await let_in(there), await let_in(there, sub="other")
    assert (await tell(there, word(there, sid=None, sub="ada-1"))).status_code == 200
    await first.me(401)
    await second.me(401)
    await other.me()


async def test_a_foreign_session_or_person_ends_nothing(there: SigningIn) -> None:
    browser = await let_in(there, sid="s1")
    for number, claims in enumerate(_FOREIGN):
        assert (await tell(there, word(there, jti=f"f{number}", **claims))).status_code == 200
    await browser.me()


ODD: dict[str, dict[str, Any]] = {
    "with a nonce": {"nonce": "n"},
    "without events": {"events": None},
    "of another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "with a list of events": {"events": [*EVENTS]},
    "without jti": {"jti": None},
    "with a number as jti": {"jti": 7},
    "with NUL in it": {"jti": "a\0"},
    "of nobody": {"sid": None},
    "of a number": {"sid": 7},
    "for somebody else": {"aud": "other"},
    "of another issuer": {"iss": "https://else.example"},
    "over": {"exp": 1_000_000_000},
    "an ID token": {"typ": "JWT"},
    "without a type": {"typ": None},
}


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_no_logout_token_ends_nothing(odd: str, there: SigningIn) -> None:
    browser = await let_in(there, sid="s1")
    answer = await tell(there, word(there, **ODD[odd]))
    assert (answer.status_code, answer.json()["code"]) == (400, "logout_refused")
    await browser.me()


async def test_a_logout_token_counts_once(there: SigningIn) -> None:
    await let_in(there, sid="s1")
    token = word(there)
    assert (await tell(there, token)).status_code == 200
    browser = await let_in(there, sid="s1")
    assert (await tell(there, token)).status_code == 400
    await browser.me()


async def test_nobody_else_signs_people_out(there: SigningIn) -> None:
    browser = await let_in(there, sid="s1")
    claims = there.provider.claims(sub=None, jti="j1", events=EVENTS, sid="s1")
    forged = signed(pair("k1"), claims, typ="logout+jwt")
    for content in (f"logout_token={forged}", "", "logout_token=", "logout_token=a&logout_token=b", b"\xff"):
        answer = await there.world.http.post("/logout/backchannel", content=content)
        assert answer.status_code == 400, content
    await browser.me()


async def test_who_signs_out_here_is_led_to_the_providers_own_sign_out(there: SigningIn) -> None:
    browser = await let_in(there)
    answer = await browser.http.post("/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login/left/entra")
    await browser.me(401)
    answer = await browser.http.get("/login/left/entra")
    assert answer.status_code == 200
    assert f"{there.provider.url}/logout?client_id=keybroker" in answer.text
    assert (await there.browser().http.get("/login/left/unknown")).status_code == 404
