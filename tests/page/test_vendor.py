"""The vendor on the page: a logo of the broker's own origin, and a privacy notice."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from broker.config import SettingsUnusable, load
from broker.web import logo
from tests.page.conftest import Visit
from tests.support.world import World

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEBP = base64.b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
SVG = b"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="120" height="40" onload="top.document.title = 'ran'">
<style>rect { fill: #0b5cad }</style>
<script>top.document.title = "ran"; fetch("/healthz")</script>
<rect width="120" height="40" rx="6"/>
</svg>"""
PAGE = "/intake/int_" + "0" * 32


@pytest.fixture
def page_settings(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "logo.svg").write_bytes(SVG)
    return {"vendor_logo": tmp_path / "logo.svg", "vendor_privacy": "https://gridwise.example/privacy?for=keys&b=1"}


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_the_page_shows_both(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    image = visit.page.get_by_role("img", name="Gridwise Compliance")
    await image.wait_for()
    assert await image.evaluate("one => one.decode().then(() => one.naturalWidth)") == 120
    privacy = visit.page.get_by_role("link", name="Privacy")
    assert await privacy.get_attribute("href") == "https://gridwise.example/privacy?for=keys&b=1"
    assert await privacy.get_attribute("target") == "_blank", "the form stays"
    assert "noopener" in (await privacy.get_attribute("rel") or "")
    assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await visit.shot("vendor")
    assert all(request.url.startswith(visit.url) for request in visit.requests), "no third party"
    assert visit.complaints == []


async def test_a_script_in_a_logo_runs_neither_on_the_page_nor_by_itself(visit: Visit) -> None:
    await visit.page.goto(f"{visit.url}{PAGE}")
    await visit.page.get_by_role("img", name="Gridwise Compliance").wait_for()
    assert await visit.page.title() != "ran"
    answer = await visit.page.goto(f"{visit.url}/static/logo")
    assert answer is not None
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert await visit.page.evaluate("origin") == "null", "it stands in nobody's origin"
    assert not any("/healthz" in request.url for request in visit.requests)
    assert any("script" in complaint for complaint in visit.complaints), "the browser says that it did not run it"


async def test_the_page_is_as_locked_down_with_a_logo(page_world: tuple[World, str]) -> None:
    page = await page_world[0].http.get(PAGE)
    assert "img-src 'self' data:" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]


@pytest.mark.parametrize("page_settings", [{}])
async def test_without_them_nothing_stands_in_their_place(page_world: tuple[World, str]) -> None:
    world, _ = page_world
    page = await world.http.get(PAGE)
    assert "<img" not in page.text
    assert "privacy" not in page.text.partition('<script id="texts"')[0]
    assert (await world.http.get("/static/logo")).status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [("a.png", PNG, "image/png"), ("a.WEBP", WEBP, "image/webp"), ("a.svg", SVG, "image/svg+xml")],
)
def test_three_kinds_of_images_are_logos(tmp_path: Path, name: str, content: bytes, media_type: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert logo.load(tmp_path / name) == logo.Logo(content, media_type)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.gif", b"GIF89a", "a logo is an .svg, .png or .webp file"),
        ("a", b"", "a logo is an .svg, .png or .webp file"),
        ("a.png", SVG, "is no PNG image"),
        ("a.webp", PNG, "is no WEBP image"),
        ("a.svg", PNG, "is no SVG image"),
        ("a.svg", b"<html xmlns='http://www.w3.org/1999/xhtml'/>", "is no SVG image"),
        ("a.svg", SVG[:-6], "is no SVG image"),
        ("a.png", PNG + b"\0" * logo.MOST, "is larger than 256 KiB"),
        ("none.png", None, "can't be read"),
    ],
)
def test_any_other_file_is_named_with_its_fix(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(logo.LogoUnusable) as refused:
        logo.load(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
    assert said in str(refused.value)


def test_a_privacy_notice_is_an_https_or_mail_address() -> None:
    for good in ("https://vendor.example/privacy", "mailto:privacy@vendor.example", ""):
        assert load(vendor_privacy=good).vendor_privacy == good
    for bad in ("http://vendor.example", "javascript:alert(1)", "mailto:", "/privacy", "https:", "vendor.example"):
        with pytest.raises(SettingsUnusable, match="BROKER_VENDOR_PRIVACY: must be such as https://"):
            load(vendor_privacy=bad)
