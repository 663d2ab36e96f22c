"""The broker's page about its API: all of it, without a script, on a phone and in the dark."""

from __future__ import annotations

import re

import pytest

from broker.web.pages.outline import sections
from tests.page.conftest import Visit
from tests.support.world import World


async def test_the_page_has_every_operation_and_needs_no_script_and_no_account(world: World) -> None:
    answer = await world.http.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<script" not in answer.text
    document = (await world.http.get("/openapi.json")).json()
    found = sections(document)
    operations = [operation for section in found for operation in section.operations]
    assert len(operations) == sum(map(len, document["paths"].values()))
    anchors = [operation.anchor for operation in operations]
    assert len(set(anchors)) == len(anchors)
    for operation in operations:
        assert f'id="{operation.anchor}"' in answer.text
        assert operation.path in answer.text
    assert document["info"]["version"] in answer.text


async def test_the_page_lets_nothing_run_and_loads_from_the_broker_alone(world: World) -> None:
    answer = await world.http.get("/docs")
    rules = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "data:",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    loaded = set(re.findall(r'(?:href|src)="([^"#]+)"', answer.text))
    assert loaded == {"/openapi.json", "/docs/reference.css", "data:,"}
    assert (await world.http.get("/docs/reference.css")).headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_the_page_is_read_on_a_phone_and_in_the_dark(visit: Visit, scheme: str, width: int) -> None:
    await visit.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await visit.page.set_viewport_size({"width": width, "height": 900})
    await visit.page.goto(f"{visit.url}/docs#lease-a-key")
    await visit.page.locator("article details summary").first.click()
    assert await visit.page.locator("article dl").first.is_visible()
    assert await visit.page.evaluate("document.documentElement.scrollWidth") == width
    ground = await visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 22, 28)") == (scheme == "dark")
    await visit.page.evaluate("document.querySelectorAll('article details').forEach(one => { one.open = true })")
    assert await visit.page.evaluate("document.documentElement.scrollWidth") == width
    await visit.shot(f"reference-{scheme}")
    assert visit.complaints == []
