"""In a real browser every page is accessible (WCAG 2.2 AA, by axe), fits a phone, and complains of nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.console.demo import Filled, fill, pages
from tests.page.conftest import browser as browser  # noqa: PLC0414 - the same browser
from tests.support.world import running_world, settings_for, upstream

AXE = (Path(__file__).parents[1] / "support" / "axe" / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Desk:
    """A browser that is signed in, and what it complained of."""

    page: Page
    url: str
    filled: Filled
    complaints: list[str]

    async def go(self, path: str) -> None:
        await self.page.goto(f"{self.url}/console{path}")


@pytest.fixture(params=["desktop-light", "phone-dark"])
async def seen(
    request: pytest.FixtureRequest, browser: Browser, tmp_path: Path, sqlite_url: str
) -> AsyncIterator[Desk]:
    phone = request.param == "phone-dark"
    async with (
        upstream() as (state, upstream_url),
        running_world(
            settings_for(tmp_path, sqlite_url, upstream_url, reveal_approval="on"), state, upstream_url
        ) as world,
        serving(world.edge, protocol=Connection) as url,
    ):
        filled = await fill(world)
        context = await browser.new_context(
            viewport={"width": 320, "height": 740} if phone else {"width": 1280, "height": 800},
            color_scheme="dark" if phone else "light",
            extra_http_headers=world.admin,
        )
        page = await context.new_page()
        made = Desk(page, url, filled, [])
        page.on("console", lambda message: made.complaints.append(message.text) if message.type == "error" else None)
        yield made
        await context.close()


async def test_every_page_is_accessible_fits_and_complains_of_nothing(seen: Desk) -> None:
    found: dict[str, Any] = {}
    for path in pages(seen.filled):
        await seen.go(path)
        await seen.page.evaluate(AXE)
        result = await seen.page.evaluate("(tags) => axe.run({runOnly: {type: 'tag', values: tags}})", RULES)
        if result["violations"]:
            found[path] = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in result["violations"]]
        wide = await seen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            found[f"{path} is too wide"] = wide
    assert not found
    assert not seen.complaints


async def _tab_to(page: Page, field: str) -> None:
    while await page.evaluate("document.activeElement.id") != field:
        await page.keyboard.press("Tab")


async def test_a_key_is_asked_for_by_keyboard_alone(seen: Desk) -> None:
    page = seen.page
    await seen.go("/requests/new?organization=acme-power")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the page"
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await _tab_to(page, "provider")
    await page.keyboard.type("Datadog")
    await _tab_to(page, "contact")
    await page.keyboard.type("ann@acme.example")
    await page.keyboard.press("Tab")
    await page.keyboard.type("audits")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#link")
    assert "Send this link to ann@acme.example" in await page.inner_text("h1")
    assert "/intake/int_" in await page.input_value("#link")
