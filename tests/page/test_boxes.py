"""A box on the way that reads or changes everything, against the page in a browser."""

from __future__ import annotations

import json

import pytest

from broker.intake.throttle import LIMITS
from broker.sandbox.serve import running as serving
from tests.page.conftest import Visit
from tests.support.box import CHANGED, Box, Changes, swaps_the_key, tried
from tests.support.links import following


async def behind(visit: Visit, box: Box, url: str) -> Visit:
    """The same customer, whose calls go through the box."""
    return Visit(visit.page, visit.context, url, box.world)


@pytest.mark.parametrize("changes", CHANGED.values(), ids=CHANGED)
async def test_the_page_asks_for_no_key_for_anybody_but_whom_the_link_names(visit: Visit, changes: Changes) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    box = Box(visit.world, changes)
    async with serving(box) as url:
        caught = await behind(visit, box, url)
        await caught.open(link)
        assert await caught.title() == "Do not paste a key here"
        assert "by another way than this link" in await caught.page.inner_text("main")
        assert await caught.page.query_selector("#key") is None
        await visit.shot("recipient-changed")
    # the link is as good as before
    await visit.open(link)
    assert await visit.title() == "Gridwise Compliance asks for your Raptor Comply API key"


async def test_the_form_for_the_next_key_opens_for_nobody_else(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.world.submit(*link, visit.world.upstream_keys["acme"])
    box = Box(visit.world, swaps_the_key)
    async with serving(box) as url:
        caught = await behind(visit, box, url)
        await caught.paste(link[0], visit.world.codes[link[0]])
        await caught.page.click("text=Submit a new key")
        await caught.page.wait_for_selector(".progress:has-text('was changed on its way')")
        assert await caught.page.query_selector("#key") is None


async def test_nothing_that_a_box_saw_of_the_page_serves_it(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "address", 10_000)
    monkeypatch.setitem(LIMITS, "link", 10_000)
    world = visit.world
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    box = Box(world)
    async with serving(box) as url:
        caught = await behind(visit, box, url)
        await caught.open((intake, secret))
        await caught.submit(world.upstream_keys["acme"])
        code = await caught.code()
        await caught.paste(intake, code)
        await caught.page.click("text=Pause the key")
        await caught.page.click("text=Resume the key")
        await caught.page.click("text=Submit a new key")
        await caught.page.wait_for_selector("#key")
        await caught.submit(world.new_key("acme"))
        second_code = await caught.code()
    rotated = next(one.answer for one in box.seen if one.path.endswith("/rotate"))
    second, second_secret = following(json.loads(rotated), code)
    await tried(world, box, {intake: (secret, code), second: (second_secret, second_code)})
