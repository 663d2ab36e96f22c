"""The page speaks the reader's language, and others than the shipped ones are files."""

from __future__ import annotations

import json
import re

import pytest
from playwright.async_api import Browser

from broker.web import texts
from tests.page.conftest import Visit, visiting
from tests.page.test_status import given
from tests.support.world import World

NEVER_MINTED = "rc_live_" + "Z" * 64
SHIPPED = texts.load()
PAGE = "/intake/int_" + "0" * 32
# What stands on a page and is no text of ours: names and codes.
VISIBLE = """() => {
    const copy = document.body.cloneNode(true);
    for (const one of copy.querySelectorAll("script, code, nav, time, tbody th")) one.remove();
    const labels = [...document.querySelectorAll("[aria-label]:not(nav)")].map((one) => one.getAttribute("aria-label"));
    return [document.title, copy.innerText, ...labels].join(" ");
}"""
NAMES = (
    "Gridwise Compliance",
    "Raptor Comply",
    "API keys",
    "Settings",
    "Revoke",
    "API key",
    "Organization Admin",
    "Acme",
    "Keybroker",
    "nightly-sync",
)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-zäöüß’]{2,}", text.lower()))


def english_only() -> set[str]:
    """The words of the English texts that no German one has."""
    one, other = (" ".join(SHIPPED.languages[tag].words.values()) for tag in ("en", "de"))
    return words(re.sub(r"\{\w+\}", " ", one)) - words(re.sub(r"\{\w+\}", " ", other))


class German:
    """A visit of somebody who reads German; each look at a page finds no English word on it."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.looks = 0

    async def look(self, title: str) -> None:
        await self.visit.page.wait_for_selector(f"h1:has-text('{title}')")
        shown = str(await self.visit.page.evaluate(VISIBLE))
        for name in NAMES:
            shown = shown.replace(name, " ")
        shown = re.sub(r"\S+@\S+|https?://\S+|key-\S+", " ", shown)
        assert words(shown) & english_only() == set(), title
        assert len(words(shown)) > 20
        fits = "document.documentElement.scrollWidth <= innerWidth"
        assert await self.visit.page.evaluate(fits), f"{title}: nothing is wider than the screen"
        self.looks += 1
        await self.visit.shot(f"de-{self.looks}")


@pytest.mark.parametrize("phone", [False, True], ids=["desktop-light", "phone-dark"])
async def test_who_reads_german_meets_no_english(browser: Browser, page_world: tuple[World, str], phone: bool) -> None:
    async with visiting(browser, page_world, phone=phone, locale="de-AT", timezone_id="Europe/Vienna") as visit:
        german, world, page = German(visit), visit.world, visit.page
        # opened, refused, submitted
        await world.organization("acme")
        link = await world.request_key("acme", purpose="7/24")
        await visit.open(link)
        assert await page.get_attribute("html", "lang") == "de"
        await german.look("Gridwise Compliance bittet um einen Schlüssel für Raptor Comply (API-Schlüssel)")
        await page.fill("#key", "sk")
        await german.look("bittet um einen")
        await visit.submit(NEVER_MINTED)
        assert "Raptor Comply sagt, dass dieser Schlüssel nicht gültig ist." in await page.inner_text("#trouble")
        await german.look("bittet um einen")
        await visit.submit(world.upstream_keys["acme"])
        await german.look("Vielen Dank. Der Schlüssel ist angekommen und funktioniert")
        code = await visit.code()
        # used, paused, replaced
        job = await world.job("nightly-sync")
        await world.grant(job, "acme")
        await world.proxied(await job.lease("acme"), "/facilities")
        await page.goto(f"{visit.url}/status/{link[0]}")
        await german.look("Fügen Sie Ihren Statuscode ein")
        await page.fill("#status-code", code)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("tbody th")
        await german.look("Der Schlüssel ist in Gebrauch")
        assert re.search(r"\d+\. \w+ \d{4} um \d\d:\d\d MEZ", await page.inner_text(".timeline"))
        await page.click("text=Schlüssel anhalten")
        await page.wait_for_selector("tbody th")
        await german.look("Der Schlüssel ist angehalten")
        await page.click("text=Schlüssel wieder freigeben")
        await page.click("text=Neuen Schlüssel übergeben")
        await german.look("Sie möchten Ihren Schlüssel für Raptor Comply ersetzen")
        await visit.submit(world.new_key("acme"))
        # withdrawn
        await page.click("text=Stand des Schlüssels ansehen")
        await page.wait_for_selector("tbody th")
        await german.look("Der Schlüssel ist in Gebrauch")
        await page.get_by_role("button", name="Schlüssel zurückziehen …").click()
        await page.wait_for_selector("dialog")
        await german.look("Der Schlüssel ist in Gebrauch")
        await page.get_by_role("button", name="Endgültig zurückziehen").click()
        await page.wait_for_selector("tbody th")
        await german.look("Der Schlüssel wird nicht mehr benutzt")
        await visit.open(link)
        await german.look("Über diesen Link wurde ein Schlüssel übergeben")
        assert german.looks == 12
        assert [one for one in visit.complaints if not one.startswith("Failed to load resource")] == []


@pytest.mark.parametrize(
    ("query", "accepted", "chosen"),
    [
        ("", "de-AT,de;q=0.9,en;q=0.8", "de"),
        ("", "fr-FR,fr;q=0.9,de;q=0.4,en;q=0.5", "en"),
        ("", "en;q=0, DE", "de"),
        ("", "nl", "en"),
        ("", "*", "en"),
        ("", "", "en"),
        ("", "de;q=high, ;;;,en", "en"),
        ("?lang=de", "en", "de"),
        ("?lang=xx", "de", "de"),
        ("?lang=%3Cscript%3E", "en", "en"),
    ],
)
async def test_the_language_is_what_is_asked_for_or_what_the_browser_says(
    page_world: tuple[World, str], query: str, accepted: str, chosen: str
) -> None:
    world, _ = page_world
    for page in ("intake", "status"):
        answer = await world.http.get(f"/{page}/int_{'0' * 32}{query}", headers={"Accept-Language": accepted})
        assert f'<html lang="{chosen}" dir="ltr">' in answer.text
        assert answer.headers["content-language"] == chosen
        assert answer.headers["vary"] == "Accept-Language"


async def test_another_language_is_chosen_on_the_page_and_keeps_the_link(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.open(link)
    await visit.page.click("#languages >> text=Deutsch")
    await visit.page.wait_for_selector("h1:has-text('bittet um einen Schlüssel')")
    assert visit.page.url == f"{visit.url}/intake/{link[0]}?lang=de"
    await visit.page.reload()
    await visit.page.wait_for_selector("h1:has-text('bittet um einen Schlüssel')")
    assert await visit.page.get_attribute("#languages [aria-current]", "lang") == "de"
    await visit.submit(visit.world.upstream_keys["acme"])
    # what only this page holds can't be lost by choosing another language
    assert await visit.page.query_selector("#languages") is None
    await visit.page.click("text=Stand des Schlüssels ansehen")
    await visit.page.wait_for_selector("h1:has-text('Der Schlüssel ist in Gebrauch')")
    assert visit.page.url == f"{visit.url}/status/{link[0]}?lang=de"
    assert not any(link[1] in f"{one.url}{one.headers}{one.post_data}" for one in visit.requests)
    assert visit.complaints == []


async def test_without_a_script_the_language_can_be_chosen_too(browser: Browser, page_world: tuple[World, str]) -> None:
    async with visiting(browser, page_world, java_script_enabled=False) as visit:
        await visit.page.goto(f"{visit.url}{PAGE}")
        assert await visit.title() == "This page needs JavaScript"
        await visit.page.click("text=Deutsch")
        assert await visit.title() == "Diese Seite braucht JavaScript"


async def test_a_refusal_that_the_page_does_not_know_is_said_in_the_services_words(visit: Visit) -> None:
    link, _ = await given(visit)
    await visit.paste(*link)
    problem = {"code": "new_kind_of_refusal", "detail": "The service says why."}
    await visit.page.route("**/pause", lambda route: route.fulfill(status=409, json=problem))
    await visit.page.click("text=Pause the key")
    await visit.page.wait_for_selector(".progress:has-text('The service says why.')")


async def test_the_texts_on_the_page_are_all_that_its_script_needs(page_world: tuple[World, str]) -> None:
    answer = await page_world[0].http.get(PAGE)
    (embedded,) = re.findall(r'<script id="texts" type="application/json">(.*?)</script>', answer.text)
    assert json.loads(embedded) == SHIPPED.languages["en"].words
