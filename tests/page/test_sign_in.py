"""How people sign in, in a real browser with a device that holds passkeys."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, CDPSession, expect
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.formats import ids
from broker.identity.oidc.tables import IdentityRow
from broker.identity.tables import AccountRow
from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.page.conftest import Visit, visiting
from tests.page.test_page import expected, no_overflow
from tests.support.axe import stumbles
from tests.support.world import World, running_world, settings_for, upstream

ON_EACH_SCREEN = pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
_DEVICE = {
    "protocol": "ctap2",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@asynccontextmanager
async def at_a_name(tmp_path: Path, database_url: str, host: str, **more: Any) -> AsyncIterator[tuple[World, str]]:
    """A broker whose public address has that host, and a port of this machine; ``more`` are its settings."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://{host}:{listening.getsockname()[1]}"
    async with (
        upstream() as (state, upstream_url),
        running_world(
            settings_for(tmp_path, database_url, upstream_url, public_url=url, **more), state, upstream_url
        ) as world,
        serving(world.edge, bound=listening, protocol=Connection),
    ):
        yield world, url


@pytest.fixture
async def page_world(tmp_path: Path, sqlite_url: str) -> AsyncIterator[tuple[World, str]]:
    async with at_a_name(tmp_path, sqlite_url, "localhost") as made:
        yield made


class Devices:
    """The devices with passkeys at a browser."""

    def __init__(self, cdp: CDPSession) -> None:
        self._cdp = cdp
        self._at_hand = ""

    async def take(self, transport: str = "internal") -> None:
        """Have another device at hand than before."""
        if self._at_hand:
            await self._cdp.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self._at_hand})
        options = {"options": {**_DEVICE, "transport": transport}}
        self._at_hand = (await self._cdp.send("WebAuthn.addVirtualAuthenticator", options))["authenticatorId"]

    async def verify(self, *, works: bool) -> None:
        """Whether its PIN, finger or face is right."""
        said = {"authenticatorId": self._at_hand, "isUserVerified": works}
        await self._cdp.send("WebAuthn.setUserVerified", said)


async def devices_of(visit: Visit) -> Devices:
    cdp = await visit.context.new_cdp_session(visit.page)
    await cdp.send("WebAuthn.enable")
    devices = Devices(cdp)
    await devices.take()
    return devices


async def invited(world: World, name: str = "grace", *roles: str) -> str:
    wanted = {"name": name, "roles": list(roles) or ["operator"]}
    return str((await world.call("POST", "/v1/operators", status=201, json=wanted))["link"])


async def enrolled(visit: Visit) -> Devices:
    """Grace at the browser, with one passkey, on her account's page."""
    devices = await devices_of(visit)
    await visit.page.goto(await invited(visit.world))
    await visit.page.get_by_role("button", name="Use the link").click()
    await visit.page.get_by_label("Where is it?").fill("work laptop")
    await visit.page.get_by_role("button", name="Make a passkey").click()
    await expect(visit.page.get_by_role("heading", name="Make a second one")).to_be_visible()
    await visit.page.goto(f"{visit.url}/console/account")
    return devices


async def judged(visit: Visit, name: str) -> None:
    """What holds of every state of every page."""
    assert await no_overflow(visit), name
    await visit.shot(f"sign-in-{name}")
    assert await stumbles(visit.page) == [], name


@ON_EACH_SCREEN
async def test_a_person_gets_in_by_their_link_makes_two_passkeys_and_signs_in(visit: Visit) -> None:
    page, devices, link = visit.page, await devices_of(visit), await invited(visit.world)
    await page.goto(link)
    await page.get_by_role("button", name="Use the link").click()
    await expect(page.get_by_role("heading", name="Make a passkey")).to_be_focused()
    await page.get_by_label("Where is it?").fill("work laptop")
    await page.get_by_role("button", name="Make a passkey").click()
    await expect(page.get_by_role("heading", name="Make a second one")).to_be_focused()
    # the same device has one already
    await page.get_by_label("Where is the second one?").fill("telephone")
    await page.get_by_role("button", name="Make a second passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("has a passkey for your account already")
    await devices.take("usb")
    await page.get_by_role("button", name="Make a second passkey").click()
    await page.wait_for_url("**/console")
    await page.goto(f"{visit.url}/console/account")
    await expect(page.get_by_role("heading", name="work laptop")).to_be_visible()
    await expect(page.get_by_role("heading", name="telephone")).to_be_visible()
    await page.get_by_role("link", name="Sign out").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/login")
    await page.goto(f"{visit.url}/console/account")
    assert page.url == f"{visit.url}/login?to=/console/account"
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await page.wait_for_url("**/console/account")
    await expect(page.locator("main")).to_contain_text("grace")
    assert all(request.url.startswith(visit.url) for request in visit.requests), "no third party"
    assert not any("kbe_" in request.url or "kbs_" in request.url for request in visit.requests)
    assert "kbs_" not in await page.evaluate("document.cookie")
    assert expected(visit.complaints) == [], "no policy was violated"


async def test_opening_a_link_spends_nothing_and_its_secret_leaves_the_address(visit: Visit) -> None:
    page, link = visit.page, await invited(visit.world)
    for _ in range(3):
        await page.goto("about:blank")
        await page.goto(link)
        await expect(page.get_by_role("button", name="Use the link")).to_be_visible()
        assert page.url == f"{visit.url}/login/link"
        assert link.partition("#")[2] not in await page.content()
    assert not any("kbe_" in f"{request.url} {request.post_data}" for request in visit.requests)
    await page.get_by_role("button", name="Use the link").click()
    await expect(page.get_by_role("heading", name="Make a passkey")).to_be_visible()
    await page.goto("about:blank")
    await page.goto(link)
    await page.get_by_role("button", name="Use the link").click()
    await expect(page.get_by_role("alert")).to_contain_text("This link was used")


async def test_a_link_without_its_secret_says_so(visit: Visit) -> None:
    await visit.page.goto(f"{visit.url}/login/link")
    await expect(visit.page.get_by_role("heading", name="This link is not whole")).to_be_focused()
    await judged(visit, "no-link")


async def test_who_is_not_verified_is_told_what_to_do(visit: Visit) -> None:
    devices = await enrolled(visit)
    await devices.verify(works=False)
    await visit.page.goto(f"{visit.url}/login")
    await visit.page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(visit.page.get_by_role("alert")).to_contain_text("Try again")
    await devices.verify(works=True)
    await visit.page.get_by_role("button", name="Sign in with a passkey").click()
    await visit.page.wait_for_url("**/console")


async def test_removing_a_passkey_asks_first_and_for_a_fresh_proof(visit: Visit) -> None:
    page, devices = visit.page, await enrolled(visit)
    await devices.take("usb")
    await page.get_by_label("Where is it?").fill("yellow key")
    await page.get_by_role("button", name="Make a passkey").click()
    await expect(page.get_by_role("heading", name="yellow key")).to_be_visible()
    visit.world.clock.forward(seconds=301)
    first = page.get_by_role("listitem").filter(has_text="work laptop")
    await first.get_by_text("Rename or remove").click()
    await first.get_by_role("button", name="Remove", exact=True).click()
    dialog = page.get_by_role("alertdialog")
    await expect(dialog).to_contain_text("Nobody can sign in with this passkey any more")
    await expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    await judged(visit, "asked")
    await dialog.get_by_role("button", name="Keep it").click()
    await first.get_by_role("button", name="Remove", exact=True).click()
    await dialog.get_by_role("button", name="Remove it").click()
    await page.wait_for_url("**/login/again?to=/console/account")
    await judged(visit, "again")
    await page.get_by_role("button", name="Use a passkey").click()
    await page.wait_for_url("**/console/account")
    await first.get_by_text("Rename or remove").click()
    await first.get_by_role("button", name="Remove", exact=True).click()
    await dialog.get_by_role("button", name="Remove it").click()
    await expect(page.get_by_role("heading", name="work laptop")).to_have_count(0)
    last = page.get_by_role("listitem").filter(has_text="yellow key")
    await last.get_by_text("Rename or remove").click()
    await last.get_by_role("button", name="Remove", exact=True).click()
    await dialog.get_by_role("button", name="Remove it").click()
    await expect(page.get_by_role("alert")).to_contain_text("This is your last passkey")
    assert expected(visit.complaints) == []


async def test_a_passkey_is_renamed_and_other_sessions_are_ended(visit: Visit, browser: Browser) -> None:
    page = visit.page
    await enrolled(visit)
    link = (await visit.world.call("POST", f"/v1/operators/{await _id(visit.world)}/link"))["link"]
    async with visiting(browser, (visit.world, visit.url)) as elsewhere:
        await elsewhere.page.goto(link)
        await elsewhere.page.get_by_role("button", name="Use the link").click()
        await expect(elsewhere.page.get_by_role("heading", name="Make a passkey")).to_be_visible()
        await page.reload()
        await page.get_by_text("Rename or remove").click()
        await page.get_by_label("Its name").fill("old laptop")
        await page.get_by_role("button", name="Rename").click()
        await expect(page.get_by_role("heading", name="old laptop")).to_be_visible()
        await page.get_by_role("button", name="End all others").click()
        await page.get_by_role("button", name="End them").click()
        await expect(page.get_by_role("button", name="End it")).to_have_count(0)
        await elsewhere.page.goto(f"{visit.url}/console/account")
        await expect(elsewhere.page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.parametrize(
    "asked",
    [
        "https://evil.example/console",
        "//evil.example",
        "/console/../login/link",
        "/\\evil.example",
        "javascript:alert(1)",
    ],
)
async def test_nobody_is_led_elsewhere_after_signing_in(visit: Visit, asked: str) -> None:
    await enrolled(visit)
    for path in ("/login", "/login/again"):
        await visit.page.goto(f"{visit.url}{path}?to={asked}")
        assert await visit.page.get_attribute("main", "data-to") == "/console"


@ON_EACH_SCREEN
async def test_every_state_is_read_at_every_width_by_everybody(visit: Visit) -> None:
    page = visit.page
    await devices_of(visit)
    if _is_phone(visit):
        await page.set_viewport_size({"width": 320, "height": 740})
    for path in ("/login", "/login/again", "/logout"):
        await page.goto(f"{visit.url}{path}")
        await judged(visit, path.strip("/").replace("/", "-"))
    await page.goto(await invited(visit.world))
    await judged(visit, "link")
    await page.get_by_role("button", name="Use the link").click()
    await expect(page.get_by_role("heading", name="Make a passkey")).to_be_visible()
    await judged(visit, "first")
    await page.get_by_label("Where is it?").fill("work laptop")
    await page.get_by_role("button", name="Make a passkey").click()
    await expect(page.get_by_role("heading", name="Make a second one")).to_be_visible()
    await judged(visit, "second")
    await page.goto(f"{visit.url}/console/account")
    await page.get_by_text("Rename or remove").click()
    await judged(visit, "account")


async def test_what_a_page_lacks_is_found(visit: Visit) -> None:
    await visit.page.goto(f"{visit.url}/login")
    await visit.page.evaluate("document.getElementById('passkey').textContent = ''")
    assert [one.partition(":")[0] for one in await stumbles(visit.page)] == ["button-name"]


async def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    page = visit.page
    await devices_of(visit)
    await page.goto(await invited(visit.world))
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Use the link")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Make a passkey")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.insert_text("laptop")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Make a second one")).to_be_focused()


async def test_where_no_passkeys_can_be_a_link_stays_unused_and_the_mend_is_said(
    browser: Browser, tmp_path: Path, sqlite_url: str
) -> None:
    async with at_a_name(tmp_path, sqlite_url, "127.0.0.1") as made, visiting(browser, made) as visit:
        mend = f"Set BROKER_PUBLIC_URL to {visit.url.replace('127.0.0.1', 'localhost')}"
        for address in (await invited(visit.world), f"{visit.url}/login"):
            await visit.page.goto(address)
            await expect(visit.page.locator("main")).to_contain_text(mend)
        answer: Any = await visit.page.request.post(
            f"{visit.url}/login/passkey/begin", headers={"Origin": visit.url}, data={}
        )
        assert (answer.status, (await answer.json())["code"]) == (409, "no_passkeys_here")


async def _id(world: World) -> str:
    (found,) = [one["id"] for one in await world.items("/v1/operators") if one["name"] == "grace"]
    return str(found)


def _is_phone(visit: Visit) -> bool:
    return (visit.page.viewport_size or {"width": 0})["width"] < 600


@ON_EACH_SCREEN
async def test_a_person_sees_whom_their_identity_provider_knows_them_as(visit: Visit) -> None:
    await enrolled(visit)
    issuer = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"
    async with visit.world.services.parts.db.write(EVERY_TENANT) as session:
        account = (await session.scalars(select(AccountRow).where(AccountRow.name == "grace"))).one()
        session.add(
            IdentityRow(
                id=ids.new(ids.IdentityId),
                account_id=account.id,
                issuer=issuer,
                subject="AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
                created_at=visit.world.clock(),
                created_by="broker",
            )
        )
    await visit.page.reload()
    await expect(visit.page.get_by_role("list", name="Identity providers")).to_contain_text(issuer)
    await judged(visit, "account-identity")
