"""``broker login --device``: a terminal without a browser, and a person who types its code into one elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.page.conftest import Visit
from tests.page.test_cli_login import CommandLine, signed_in
from tests.page.test_sign_in import ON_EACH_SCREEN, at_a_name, judged
from tests.support.world import World

CODE = r"\b[B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4}\b"


@pytest.fixture
async def page_world(tmp_path: Path, sqlite_url: str) -> AsyncIterator[tuple[World, str]]:
    async with at_a_name(tmp_path, sqlite_url, "localhost", login_device=True) as made:
        yield made


async def typed(visit: Visit, code: str) -> None:
    """Go where the terminal says, and type what it shows."""
    await visit.page.goto(f"{visit.url}/login/device")
    await visit.page.get_by_label("The code in your terminal").fill(code)
    await visit.page.get_by_role("button", name="Go on").click()


@ON_EACH_SCREEN
async def test_a_terminal_is_signed_in_once_its_person_typed_the_code_and_said_so(visit: Visit, tmp_path: Path) -> None:
    terminal = CommandLine(visit.url, tmp_path, "--device")
    await signed_in(visit)
    code = await terminal.begin(CODE)
    assert f"{visit.url}/login/device" in terminal.said
    await visit.page.goto(f"{visit.url}/login/device")
    await judged(visit, "device")
    await typed(visit, "BCDF-BCDF")
    await expect(visit.page.get_by_role("alert").last).to_contain_text("No command line waits with this code")
    await judged(visit, "device-wrong")
    await typed(visit, code)
    await expect(visit.page.get_by_role("note")).to_contain_text("only if you started this yourself")
    await expect(visit.page.locator("dl")).to_contain_text("127.0.0.1")
    await judged(visit, "device-asks")
    await visit.page.get_by_role("button", name="Yes, I started it").click()
    await expect(visit.page.get_by_role("heading", name="The command line is signed in")).to_be_visible()
    await judged(visit, "device-done")
    assert await terminal.end() == 0
    assert "You are ada (admin), until" in terminal.said
    assert not any(code in request.url for request in visit.requests)


async def test_a_terminal_that_is_refused_says_so(visit: Visit, tmp_path: Path) -> None:
    terminal = CommandLine(visit.url, tmp_path, "--device")
    await signed_in(visit)
    await typed(visit, await terminal.begin(CODE))
    await visit.page.get_by_role("button", name="Refuse").click()
    await expect(visit.page.get_by_role("heading", name="It was refused")).to_be_visible()
    assert await terminal.end() == 1
    assert "refused in the browser" in terminal.said


@pytest.mark.parametrize("visit", ["desktop-light"], indirect=True)
async def test_its_pages_fit_320_pixels(visit: Visit, tmp_path: Path) -> None:
    await visit.page.set_viewport_size({"width": 320, "height": 640})
    terminal = CommandLine(visit.url, tmp_path, "--device")
    await signed_in(visit)
    await typed(visit, await terminal.begin(CODE))
    await judged(visit, "device-asks")
    await visit.page.get_by_role("button", name="Refuse").click()
    assert await terminal.end() == 1
