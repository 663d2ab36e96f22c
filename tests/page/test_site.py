"""The documents' site as ``make docs`` builds it: whole, found by its search, and alone with its reader."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.page.conftest import SHOTS

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / ".venv-docs" / "bin" / "sphinx-build"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not GENERATOR.exists():
        pytest.skip("no generator of the site here; `make test` and `make docs` install it")
    made = tmp_path_factory.mktemp("site")
    command = f"{GENERATOR} --fail-on-warning --quiet --conf-dir docs --doctree-dir {made}/kept . {made}/site"
    done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (made / "site").as_uri()


@pytest.fixture
async def reader(browser: Browser) -> Page:
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    return await context.new_page()


async def test_the_site_begins_at_its_index_and_leads_everywhere(site: str, reader: Page) -> None:
    await reader.goto(f"{site}/index.html")
    await reader.wait_for_url("**/README.html")
    for title in ("Tutorial", "How-to guides", "Reference", "Explanations", "Formats", "Decisions", "Security"):
        await expect(reader.locator(".sidebar-tree").get_by_text(title, exact=True).first).to_be_visible()


async def test_the_search_finds_a_code_without_a_server_or_a_network(site: str, reader: Page) -> None:
    asked: list[str] = []
    reader.on("request", lambda request: asked.append(request.url))
    await reader.goto(f"{site}/search.html?q=key_paused")
    await expect(reader.locator("#search-results li a").first).to_be_visible()
    found = await reader.locator("#search-results li a").all_inner_texts()
    assert any("key_paused" in one or "Codes of refusals" in one for one in found), found
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["README", "docs/reference/problems", "docs/how-to/README"])
async def test_its_pages_are_read_on_a_phone(site: str, reader: Page, page: str, scheme: str) -> None:
    await reader.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await reader.set_viewport_size({"width": 360, "height": 740})
    await reader.goto(f"{site}/{page}.html")
    assert await reader.evaluate("document.documentElement.scrollWidth") <= 360
    if SHOTS:
        await reader.screenshot(path=str(Path(SHOTS) / f"site-{page.replace('/', '-')}-{scheme}.png"))
