"""Plant the secrets of sign-ins, good and bad ones, and search all that the broker keeps, logs and answers for them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from starlette.responses import JSONResponse, Response

from broker.base.db import EVERY_TENANT
from broker.tables import METADATA
from tests.house.test_canary import found
from tests.house.test_logs import Lines
from tests.identity.test_device_sign_in import DEVICE, PAGE, SAME
from tests.identity.test_oidc import GROUPS, TOKEN, work
from tests.identity.test_sessions import in_browser
from tests.support.issuer import SECRET
from tests.support.signing_in import Browser, SigningIn, signing_in
from tests.support.world import World

ACCESS, REFRESH = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
# What hands a secret on: to the browser, or in the address of the provider that it is for.
HANDING = frozenset({"set-cookie", "location"})


@pytest.fixture
async def there(tmp_path: Path, database_url: str) -> AsyncIterator[SigningIn]:
    async with signing_in(tmp_path, database_url, login_device=True) as made:
        made.provider.token_answer = {"access_token": ACCESS, "refresh_token": REFRESH}
        yield made


class Planted:
    """The secrets that were about, and all that was answered meanwhile."""

    def __init__(self, there: SigningIn) -> None:
        self.there = there
        self.secrets = {"client secret": SECRET, "access token": ACCESS, "refresh token": REFRESH}
        self.said: list[bytes] = []

    def hear(self, answer: httpx2.Response) -> httpx2.Response:
        """Keep an answer, but for what hands secrets on by purpose."""
        told = [pair for pair in answer.headers.multi_items() if pair[0].lower() not in HANDING]
        self.said.append(answer.content + repr(told).encode())
        return answer

    async def code(self, browser: Browser, **claims: Any) -> str:
        """A code of a sign-in that has begun."""
        asked, number = await browser.leave(), len(self.secrets)
        code = self.there.provider.give_code(asked, **GROUPS, **claims)
        for name in ("state", "nonce"):
            self.secrets[f"{name} {number}"] = asked[name]
        self.secrets[f"code {number}"] = code
        return code

    async def come_back(self, browser: Browser, code: str) -> httpx2.Response:
        """Come back with it."""
        answer = self.hear(await browser.come_back(code=code))
        number = len(self.secrets)
        self.secrets |= {f"verifier {number}-{at}": one for at, one in enumerate(self._verifiers())}
        self.secrets |= {f"cookie {number}-{name}": value for name, value in browser.http.cookies.items()}
        return answer

    def _verifiers(self) -> Iterator[str]:
        return (form["code_verifier"] for form in self.there.provider.forms if "code_verifier" in form)


async def by_a_provider(there: SigningIn, planted: Planted) -> None:
    """A sign-in as it should be, and one of each that isn't."""
    browser, provider = there.browser(), there.provider
    code = await planted.code(browser)
    token = provider.sign(provider.codes[code])
    planted.secrets["ID token"] = token.rpartition(".")[0]
    provider.token_answer |= {"id_token": token}
    assert (await planted.come_back(browser, code)).status_code == 303
    # a token of another sign-in
    assert (await planted.come_back(browser, await planted.code(browser))).status_code == 403
    for status, error in ((400, "invalid_grant"), (401, "invalid_client"), (500, "server_error")):
        code = await planted.code(browser)
        provider.answers[TOKEN] = lambda said=(status, error, code): JSONResponse(  # type: ignore[misc]  # of this round
            {"error": said[1], "error_description": f"{said[2]} {SECRET} {token}"}, said[0]
        )
        assert (await planted.come_back(browser, code)).status_code in {403, 503}
    code = await planted.code(browser)
    provider.answers[TOKEN] = lambda: Response(f"<html>{code} {SECRET} {token} {ACCESS}", 200)
    assert (await planted.come_back(browser, code)).status_code == 503
    provider.answers.clear()
    # what nobody began
    for state in ("x" * 43, browser.sent["state"]):
        planted.hear(await browser.http.get("/login/callback", params={"state": state, "code": code}))
    planted.hear(await there.world.http.post("/logout/backchannel", data={"logout_token": token}))
    await work(there, 10)


async def by_a_code(there: SigningIn, planted: Planted) -> tuple[str, str]:
    """A command line that is let in, and one that isn't; the codes that people type."""
    http, codes = there.world.http, []
    for allow in ("yes", "no"):
        begun = (await http.post("/oauth/device_authorization", data={"client_id": "broker-cli"})).json()
        codes.append(begun["user_code"])
        planted.secrets[f"device code {allow}"] = begun["device_code"]
        form = {"grant_type": DEVICE, "client_id": "broker-cli", "device_code": begun["device_code"]}
        planted.hear(await http.post("/oauth/token", data=form))
        cookie = await in_browser(there.world, "ada")
        sent = {"code": begun["user_code"], "allow": allow}
        planted.hear(await http.post(PAGE, data=sent, headers={**cookie, **SAME}))
        answer = await http.post("/oauth/token", data=form)
        if allow == "yes":
            planted.secrets["session token"] = answer.json()["access_token"]
        planted.hear(await http.post("/oauth/token", data=form))
        planted.hear(await http.post("/oauth/token", data={**form, "device_code": form["device_code"][:-1]}))
    return codes[0], codes[1]


async def kept(world: World) -> bytes:
    """Every row of every table, bytes in clear."""
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        rows = [row for table in METADATA.tables.values() for row in (await session.execute(select(table))).all()]
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)


async def test_no_secret_of_a_sign_in_is_kept_logged_or_answered(there: SigningIn) -> None:
    planted, lines = Planted(there), Lines()
    with lines.open():
        await by_a_provider(there, planted)
        typed = await by_a_code(there, planted)
    planted.hear(await there.world.http.get("/metrics"))
    events = str(await there.world.events()).encode()
    places = {"answers": b"\n".join(planted.said), "log": lines.written.encode(), "record": events}
    places["database"] = await kept(there.world)
    assert b"sign_in." in places["log"], "something was logged"
    wanted = {name: value.encode() for name, value in planted.secrets.items()}
    assert {name.partition(" ")[0] for name in wanted} >= {"client", "code", "state", "verifier", "ID", "device"}
    assert [leak for where, data in places.items() for leak in found(wanted, where, data)] == []
    for code in typed:
        for form in (code, code.replace("-", "")):
            assert not any(form.encode() in data for data in places.values())
