"""A key is taken out of what was copied around it: shown, and said."""

from __future__ import annotations

import json

import pytest

from tests.page.conftest import Visit

KEY = "rc_live_" + "a1B2" * 16
KEPT = "Only the key was kept, which ends in “a1B2”; "
AROUND = {
    f'"{KEY}"': "the signs around it were left out.",
    f"'{KEY}',": "the signs around it were left out.",
    f"“{KEY}”": "the signs around it were left out.",
    f"«{KEY}»": "the signs around it were left out.",
    f"`{KEY}`": "the signs around it were left out.",
    f"<{KEY}>": "the signs around it were left out.",
    f"{KEY}.": "the signs around it were left out.",
    f"X-API-Key: {KEY}": "“X-API-Key:” was left out.",
    f"x-api-key:{KEY}": "“x-api-key:” was left out.",
    f"Authorization: Bearer {KEY}": "“Authorization: Bearer” was left out.",
    f"Bearer {KEY}": "“Bearer” was left out.",
    f"RAPTOR_API_KEY={KEY}": "“RAPTOR_API_KEY=” was left out.",
    f'export RAPTOR_API_KEY="{KEY}"': "“export RAPTOR_API_KEY=” was left out.",
    f"$env:RAPTOR_API_KEY = '{KEY}';": "“$env:RAPTOR_API_KEY =” was left out.",
    f"-H 'X-API-Key: {KEY}'": "“-H X-API-Key:” was left out.",
    f"API key: {KEY}": "“API key:” was left out.",
    f'"api_key": "{KEY}",': "“api_key:” was left out.",
    json.dumps({"api_key": KEY}): "“api_key:” was left out.",
    json.dumps({"id": 7, "name": "vendor", "key": {"value": KEY}}): "the rest of the JSON object was left out.",
    json.dumps({"headers": {"Authorization": f"Bearer {KEY}"}, "x": []}): "the rest of the JSON object was left out.",
}
LINES = (
    f"Host: api.raptormaps.com\nX-API-Key: {KEY}\nAccept: */*\n",
    f"# production\r\nexport RAPTOR_URL=https://api.raptormaps.com\r\nexport RAPTOR_API_KEY={KEY}\r\n",
    f"name: vendor\napi_key: '{KEY}'\n",
)


async def opened(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))


async def test_what_stands_around_a_key_is_left_out_and_said(visit: Visit) -> None:
    await opened(visit)
    for pasted, said in AROUND.items():
        await visit.page.fill("#key", pasted)
        assert await visit.page.input_value("#key") == KEY, pasted
        assert await visit.page.inner_text("#key-taken") == KEPT + said
        assert "looks like a complete API key" in await visit.page.inner_text("#key-verdict")
    assert visit.complaints == []


async def test_spaces_and_what_nobody_sees_are_left_out(visit: Visit) -> None:
    await opened(visit)
    for pasted in (f" {KEY}\t", f"\u200b{KEY}", f"\ufeff{KEY}", f"\u200e{KEY[:9]}\u00ad{KEY[9:]}", f"\u00a0{KEY}"):
        await visit.page.fill("#key", pasted)
        assert await visit.page.input_value("#key") == KEY, ascii(pasted)
        assert await visit.page.inner_text("#key-taken") == "Spaces and invisible characters were removed."
    await visit.page.fill("#key", KEY)
    assert await visit.page.inner_text("#key-taken") == ""


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
@pytest.mark.parametrize("by", ["keyboard", "button"])
async def test_a_key_is_taken_out_of_the_lines_that_were_pasted(visit: Visit, by: str) -> None:
    await visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await opened(visit)
    for pasted in (*LINES, json.dumps({"id": 7, "api_key": KEY}, indent=2), f"{KEY[:40]}\n{KEY[40:]}", KEY):
        await visit.page.fill("#key", "")
        await visit.page.evaluate("text => navigator.clipboard.writeText(text)", pasted)
        if by == "button":
            await visit.page.get_by_role("button", name="Paste").click()
        else:
            await visit.page.focus("#key")
            await visit.page.keyboard.press("ControlOrMeta+V")
        await visit.page.wait_for_selector("#key-verdict[data-state=good]")
        assert await visit.page.input_value("#key") == KEY, pasted
        if pasted in LINES:
            assert await visit.page.inner_text("#key-taken") == KEPT + "the other lines were left out."
            await visit.shot("pasted-lines")
    assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.complaints == []


async def test_what_is_not_surely_the_key_stays_as_it_is(visit: Visit) -> None:
    await opened(visit)
    other = "rc_live_" + "c3D4" * 16
    for pasted in (
        json.dumps({"one": KEY, "two": other}),
        f"{KEY} {other}",
        f"{KEY} is ours",
        f"take {KEY}",
        f"X-API-Key: {KEY[:-3]}",
        f"{KEY[:30]} {KEY[30:]}",
    ):
        await visit.page.fill("#key", pasted)
        assert await visit.page.input_value("#key") == pasted
        assert await visit.page.inner_text("#key-taken") == ""
        assert await visit.page.get_attribute("#key-verdict", "data-state") == "bad"


async def test_what_was_left_out_stays_said_until_the_field_changes(visit: Visit) -> None:
    await opened(visit)
    key = visit.world.upstream_keys["acme"]
    await visit.page.fill("#key", f"X-API-Key: {key}")
    await visit.context.set_offline(True)
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("#trouble h2")
    assert "“X-API-Key:” was left out" in await visit.page.inner_text("#key-taken")
    await visit.context.set_offline(False)
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("text=Thank you. The key was received and works")
