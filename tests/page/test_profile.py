"""What a browser keeps on disk of a visit: no code, and nothing of the next link."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.page.conftest import ARGUMENTS, CHROMIUM, Visit
from tests.support.links import following
from tests.support.world import World


def holding(profile: Path, text: str) -> list[str]:
    """The files of a profile that hold a text, as UTF-8 or UTF-16."""
    forms = [text.encode(), text.encode("utf-16-le")]
    files = [file for file in profile.rglob("*") if file.is_file() and not file.is_symlink()]
    return [str(file.relative_to(profile)) for file in files if any(form in file.read_bytes() for form in forms)]


async def test_the_history_keeps_the_one_time_link_and_no_code(page_world: tuple[World, str], tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; `make test` as root on Debian installs it")
    world, url = page_world
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    profile = tmp_path / "profile"
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=ARGUMENTS)
        visit = Visit(await context.new_page(), context, url, world)
        await visit.open((intake, secret))
        said = await visit.page.inner_text("#by-link")
        await visit.submit(world.upstream_keys["acme"])
        code = await visit.code()
        await visit.page.click("text=See the status of the key")
        await visit.page.wait_for_selector("h1:has-text('The key is in use')")
        await visit.paste(intake, code)
        async with visit.page.expect_response("**/rotate") as rotating:
            await visit.page.click("text=Submit a new key")
        link = following(await (await rotating.value).json(), code)
        await visit.page.wait_for_selector("#key")
        key = world.new_key("acme")
        await visit.submit(key)
        second = await visit.code()
        await context.close()
    assert holding(profile, intake), "the visit was written"
    assert holding(profile, secret), "as the page says:"
    assert "history keeps the link that you opened" in said
    for kept in (code, second, link[1], world.upstream_keys["acme"], key):
        assert holding(profile, kept) == []
        assert holding(profile, " ".join(kept[start : start + 4] for start in range(0, len(kept), 4))) == []


async def test_a_tab_that_the_browser_restores_comes_back_to_the_form(
    page_world: tuple[World, str], tmp_path: Path
) -> None:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; `make test` as root on Debian installs it")
    world, url = page_world
    await world.organization("acme")
    link = await world.request_key("acme")
    async with async_playwright() as playwright:
        launch = playwright.chromium.launch_persistent_context
        context = await launch(tmp_path / "profile", executable_path=CHROMIUM, args=ARGUMENTS)
        visit = Visit(context.pages[0], context, url, world)
        await visit.open(link)
        assert visit.page.url == f"{url}/intake/{link[0]}"
        await context.close()
        restoring = [*ARGUMENTS, "--restore-last-session"]
        context = await launch(tmp_path / "profile", executable_path=CHROMIUM, args=restoring)
        (page,) = [page for page in context.pages if page.url.startswith(url)]
        visit = Visit(page, context, url, world)
        await page.wait_for_selector("#key")
        await visit.submit(world.upstream_keys["acme"])
        assert await visit.title() == "Thank you. The key was received and works"
        await context.close()
