"""A real browser on the real page of a real broker."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, Request, async_playwright

from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.support.world import World, running_world, settings_for, upstream

# Where pictures are kept for people to look at, when they ask for them.
SHOTS = os.environ.get("KEYBROKER_SHOTS")
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; `make test` as root on Debian installs it")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        await launched.close()


@dataclass
class Visit:
    """A customer's browser: its page, everything it sent, and everything it complained about."""

    page: Page
    context: BrowserContext
    url: str
    world: World
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def open(self, link: tuple[str, str], page: str = "intake") -> None:
        """Open a link as it was sent."""
        intake, secret = link
        await self.page.goto(f"{self.url}/{page}/{intake}#{secret}")
        await self.page.wait_for_selector("h1")

    async def paste(self, intake: str, code: str) -> None:
        """Open the status page by its code."""
        await self.page.goto(f"{self.url}/status/{intake}")
        await self.page.fill("#status-code", code)
        await self.page.click("text=Show the status")
        await self.page.wait_for_selector("h1:not(:has-text('Paste your status code'))")

    async def code(self) -> str:
        """The status code that the page shows."""
        return (await self.page.inner_text("#code")).replace(" ", "")

    async def title(self) -> str:
        """The heading of the present state."""
        return await self.page.inner_text("h1")

    async def shot(self, name: str) -> None:
        """Keep a picture for people to look at, where they ask for them."""
        if SHOTS:
            width = (self.page.viewport_size or {"width": 0})["width"]
            await self.page.screenshot(path=str(Path(SHOTS) / f"{name}-{width}.png"), full_page=True)

    async def submit(self, key: str) -> None:
        """Paste a key and submit it; waits for the next state."""
        await self.page.fill("#key", key)
        await self.page.click("button[type=submit]")
        await self.page.wait_for_selector("form[aria-busy=false] #trouble h2, h1:not(:has(~ form))")


async def file_from(button: Locator) -> bytes:
    """The file that a button or link gives."""
    async with button.page.expect_download() as downloading:
        await button.click()
    return (await (await downloading.value).path()).read_bytes()


@pytest.fixture
def page_settings() -> dict[str, Any]:
    """What the broker of the page is set to, beside the usual; a module may have its own."""
    return {}


@pytest.fixture
async def page_world(
    tmp_path: Path, sqlite_url: str, page_settings: dict[str, Any]
) -> AsyncIterator[tuple[World, str]]:
    async with (
        upstream() as (state, upstream_url),
        running_world(settings_for(tmp_path, sqlite_url, upstream_url, **page_settings), state, upstream_url) as world,
        serving(world.edge, protocol=Connection) as url,
    ):
        yield world, url


@pytest.fixture
async def visit(
    request: pytest.FixtureRequest, browser: Browser, page_world: tuple[World, str]
) -> AsyncIterator[Visit]:
    phone = getattr(request, "param", "desktop-light") == "phone-dark"
    async with visiting(browser, page_world, phone=phone) as made:
        yield made


@asynccontextmanager
async def visiting(
    browser: Browser, page_world: tuple[World, str], *, phone: bool = False, locale: str = "en-GB", **more: Any
) -> AsyncIterator[Visit]:
    """A customer with a browser of their own; ``more`` are playwright's options of its context."""
    world, url = page_world
    context = await browser.new_context(
        viewport={"width": 360, "height": 740} if phone else {"width": 1100, "height": 800},
        color_scheme="dark" if phone else "light",
        locale=locale,
        **{"timezone_id": "UTC", **more},
    )
    page = await context.new_page()
    made = Visit(page, context, url, world)
    page.on("request", lambda request: made.requests.append(request))  # noqa: PLW0108 - playwright wants a function
    page.on("console", lambda message: made.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    yield made
    await context.close()
