"""``make screenshots``: a picture of every page at desktop and phone width, light and dark, from a filled broker.

They are for people to look at: nothing compares them.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.console.demo import fill, pages
from tests.page.conftest import ARGUMENTS, CHROMIUM
from tests.support.databases import sqlite_copy, sqlite_template
from tests.support.world import running_world, settings_for, upstream

WIDTHS = {"desktop": (1280, 800), "phone": (360, 740)}
SCHEMES = ("light", "dark")


async def take(folder: Path, only: str = "") -> None:
    """Write the pictures of every page, or of those whose address has ``only``."""
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
            for width, size in WIDTHS.items():
                for scheme in SCHEMES:
                    context = await browser.new_context(
                        viewport={"width": size[0], "height": size[1]},
                        color_scheme="dark" if scheme == "dark" else "light",
                        extra_http_headers=world.admin,
                    )
                    page = await context.new_page()
                    for path in (path for path in pages(filled) if only in path):
                        await page.goto(f"{address}/console{path}")
                        file = folder / f"{_name(path)}-{width}-{scheme}.png"
                        await page.screenshot(path=str(file), full_page=True)
                    if only in (event := f"/audit/{filled.event}"):
                        await page.goto(f"{address}/console{event}")
                        await page.click("text=Verify in this browser")
                        await page.wait_for_selector("#verdict.callout")
                        await page.screenshot(path=str(folder / f"verified-{width}-{scheme}.png"), full_page=True)
                    if not only:
                        await page.goto(f"{address}/console/requests/new?organization=dune-solar")
                        await page.select_option("#provider", "raptor-comply")
                        await page.fill("#label", f"{width}-{scheme}")
                        await page.fill("#contact", "ann@dune.example")
                        await page.fill("#purpose", "nightly synchronisation of facilities")
                        await page.click("text=Make the link")
                        await page.wait_for_selector("#link")
                        await page.screenshot(path=str(folder / f"link-{width}-{scheme}.png"), full_page=True)
                    await context.close()
            await browser.close()


def _name(path: str) -> str:
    """What a page's picture is called: its address without ids."""
    plain = re.sub(r"[a-z]{3}_[0-9a-f]{32}", "one", path)
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "overview"


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(target, sys.argv[2] if len(sys.argv) > 2 else ""))
