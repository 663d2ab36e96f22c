"""``broker login``: the command line asks, a person at the browser decides, and nobody else comes between."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.base.clock import later
from broker.base.db import EVERY_TENANT
from broker.identity import sessions
from broker.identity.sessions import Client, Device, SignedIn, Way
from broker.identity.tables import AccountRow
from broker.web import cookies
from tests.page.conftest import Visit
from tests.page.test_sign_in import at_a_name, page_world
from tests.support.axe import stumbles
from tests.support.commands import MINIMAL
from tests.support.waiting import eventually

__all__ = ["at_a_name", "page_world"]


class CommandLine:
    """``broker login`` at a terminal, whose browser is the tests'."""

    def __init__(self, url: str, folder: Path, *options: str) -> None:
        self._main, other = pty.openpty()
        environment = {
            **MINIMAL,
            "BROKER_URL": url,
            "BROWSER": "true",
            "XDG_CONFIG_HOME": str(folder),
            "HOME": str(folder),
        }
        self._starting = asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "broker", "login", *options),
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment,
        )
        self._other, self.said = other, ""

    async def begin(self, says: str = r"http\S+/login/cli\?\S+") -> str:
        """Start it; what it says, by default the address that it opens."""
        self.process = await self._starting
        os.close(self._other)
        asyncio.get_running_loop().add_reader(self._main, self._read)
        await eventually(lambda: re.search(says, self.said) is not None)
        return re.findall(says, self.said)[0]  # type: ignore[no-any-return]  # each is a text

    def _read(self) -> None:
        with suppress(OSError):
            self.said += os.read(self._main, 65_536).decode()
            return
        asyncio.get_running_loop().remove_reader(self._main)

    async def end(self) -> int:
        """Its exit status."""
        return await self.process.wait()


async def signed_in(visit: Visit, *, minutes_ago: int = 0) -> None:
    """Have the browser hold a session."""
    world, now = visit.world, visit.world.clock()
    key = world.services.parts.keys.token_hash
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        account = (await session.scalars(select(AccountRow).where(AccountRow.name == "ada"))).one()
        proof = SignedIn(Way.PASSKEY, later(now, -minutes_ago * 60_000))
        _, token = await sessions.begin(session, key, account, proof, Device(Client.BROWSER, "::1", "Chromium"), now)
    await visit.context.add_cookies([{"name": cookies.name(visit.url), "value": token, "url": visit.url}])


async def test_the_command_line_is_signed_in_once_its_person_says_so(visit: Visit, tmp_path: Path) -> None:
    terminal = CommandLine(visit.url, tmp_path)
    address = await terminal.begin()
    await signed_in(visit)
    await visit.page.goto(address)
    code = await visit.page.inner_text("p.code")
    assert code in terminal.said, "the person compares them"
    assert await stumbles(visit.page) == []
    await visit.shot("login-cli")
    await visit.page.click("text=Yes, sign it in")
    await visit.page.wait_for_selector("text=You are signed in on the command line.")
    assert await terminal.end() == 0
    await eventually(lambda: "You are ada (admin), until" in terminal.said)
    (begun,) = [
        event for event in await visit.world.events(kind="session.begun") if event["core"]["mode"] == "passkey"
    ][1:]
    assert begun["core"]["subject"]
    assert not any("kbs_" in request.url for request in visit.requests)


async def test_whoever_refuses_gives_it_nothing(visit: Visit, tmp_path: Path) -> None:
    terminal = CommandLine(visit.url, tmp_path)
    await signed_in(visit)
    await visit.page.goto(await terminal.begin())
    await visit.page.get_by_role("button", name="Refuse").click()
    await visit.page.wait_for_selector("text=Nothing was allowed.")
    assert await terminal.end() == 1
    await eventually(lambda: "refused in the browser" in terminal.said)


@pytest.mark.parametrize(("minutes_ago", "led_to"), [(None, "/login?to="), (6, "/login/again?to=")])
async def test_whoever_isnt_signed_in_or_was_long_ago_proves_it_first(
    visit: Visit, minutes_ago: int | None, led_to: str
) -> None:
    if minutes_ago is not None:
        await signed_in(visit, minutes_ago=minutes_ago)
    asked = f"/login/cli?port=5000&state={'s' * 22}&challenge={'c' * 43}&host=laptop"
    await visit.page.goto(visit.url + asked)
    assert led_to in visit.page.url
    assert await visit.page.get_attribute("main", "data-to") == asked


@pytest.mark.parametrize(
    "changed",
    [{"port": "80"}, {"port": "1.2"}, {"state": "x"}, {"challenge": "c" * 42}, {"host": "<b>"}, {"more": "1"}],
)
async def test_what_no_command_line_asks_is_refused(visit: Visit, changed: dict[str, str]) -> None:
    asked = {"port": "5000", "state": "s" * 22, "challenge": "c" * 43, "host": "laptop", **changed}
    answer = await visit.world.http.get("/login/cli", params=asked)
    assert answer.status_code == 422
