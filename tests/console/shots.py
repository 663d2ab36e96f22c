"""``make screenshots``: a picture of every page at desktop and phone width, light and dark, from a filled broker.

They are for people to look at: nothing compares them.  ``make pictures`` takes those that stand in the README.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.console.demo import Filled, fill, pages
from tests.page.conftest import ARGUMENTS, CHROMIUM
from tests.support.databases import sqlite_copy, sqlite_template
from tests.support.world import running_world, settings_for, upstream

WIDTHS = {"desktop": (1280, 800), "phone": (360, 740)}
SCHEMES = ("light", "dark")


@dataclass
class Studio:
    """A filled broker, and a browser that its admin is at."""

    filled: Filled
    address: str
    browser: Browser

    @asynccontextmanager
    async def page(self, width: str, scheme: str) -> AsyncIterator[Page]:
        """A page of that width and scheme."""
        context = await self.browser.new_context(
            viewport={"width": WIDTHS[width][0], "height": WIDTHS[width][1]},
            color_scheme="dark" if scheme == "dark" else "light",
            extra_http_headers=self.filled.world.admin,
        )
        yield await context.new_page()
        await context.close()

    async def verified(self, page: Page) -> None:
        """Have an event's page verify it."""
        await page.goto(f"{self.address}/console/audit/{self.filled.event}")
        await page.click("text=Verify in this browser")
        await page.wait_for_selector("#verdict.callout")

    async def asked(self, page: Page, label: str) -> None:
        """Have a customer asked for a key."""
        await page.goto(f"{self.address}/console/requests/new?organization=dune-solar")
        await page.select_option("#provider", "raptor-comply")
        await page.fill("#label", label)
        await page.fill("#contact", "ann@dune.example")
        await page.fill("#purpose", "nightly synchronisation of facilities")
        await page.click("text=Make the link")
        await page.wait_for_selector("#link")


@asynccontextmanager
async def studio() -> AsyncIterator[Studio]:
    """One that is there for as long as it is needed."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        database = sqlite_copy(await sqlite_template(home / "template.db"), home)
        async with (
            upstream() as (state, url),
            running_world(settings_for(home, database, url, reveal_approval="on"), state, url) as world,
            serving(world.edge, protocol=Connection) as address,
            async_playwright() as playwright,
        ):
            filled = await fill(world)
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            yield Studio(filled, address, browser)
            await browser.close()


async def take(folder: Path, only: str = "") -> None:
    """Write the pictures of every page, or of those whose address has ``only``."""
    async with studio() as made:
        for width, scheme in [(width, scheme) for width in WIDTHS for scheme in SCHEMES]:
            async with made.page(width, scheme) as page:
                for path in (path for path in pages(made.filled) if only in path):
                    await page.goto(f"{made.address}/console{path}")
                    await page.screenshot(path=str(folder / f"{_name(path)}-{width}-{scheme}.png"), full_page=True)
                if only in f"/audit/{made.filled.event}":
                    await made.verified(page)
                    await page.screenshot(path=str(folder / f"verified-{width}-{scheme}.png"), full_page=True)
                if not only:
                    await made.asked(page, f"{width}-{scheme}")
                    await page.screenshot(path=str(folder / f"link-{width}-{scheme}.png"), full_page=True)


async def take_for_readme(folder: Path) -> None:
    """Write the pictures of the README, as a desktop shows them."""
    async with studio() as made, made.page("desktop", "light") as page:
        await page.goto(f"{made.address}/console")
        await page.screenshot(path=str(folder / "overview.png"))
        await page.goto(f"{made.address}/console/organizations/acme-power")
        await page.screenshot(path=str(folder / "customer.png"))
        await made.verified(page)
        await page.locator("section", has=page.locator("#verdict")).screenshot(path=str(folder / "verified.png"))


def _name(path: str) -> str:
    """What a page's picture is called: its address without ids."""
    plain = re.sub(r"[a-z]{3}_[0-9a-f]{32}", "one", path)
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "overview"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    if target.parts[0] == "docs":
        asyncio.run(take_for_readme(target))
    else:
        asyncio.run(take(target, sys.argv[2] if len(sys.argv) > 2 else ""))
