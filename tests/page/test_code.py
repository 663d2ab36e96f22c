"""The status code: made by the page, kept by who submitted, pasted to see what became of the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Route

from broker.formats import link_secret
from tests.page.conftest import Visit

ON_EACH_SCREEN = pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)


async def submitted(visit: Visit) -> tuple[str, str]:
    """A key that was submitted on the page; the intake, and the code that is shown."""
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.open(link)
    await visit.submit(visit.world.upstream_keys["acme"])
    return link[0], await visit.code()


@ON_EACH_SCREEN
async def test_it_is_shown_in_groups_and_opens_the_status_in_place(visit: Visit) -> None:
    intake, code = await submitted(visit)
    assert link_secret.check(code)
    assert len((await visit.page.inner_text("#code")).split(" ")) == 8
    assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await visit.shot("code")
    await visit.page.click("text=See the status of the key")
    await visit.page.wait_for_selector("h1:has-text('The key is in use')")
    assert await visit.code() == code, "it is still there to be kept"
    assert visit.page.url == f"{visit.url}/status/{intake}"
    assert [request.url for request in visit.requests if request.is_navigation_request()] == [
        f"{visit.url}/intake/{intake}"
    ], "nothing but the link was navigated to"
    await visit.page.reload()
    await visit.page.wait_for_selector("h1:has-text('Paste your status code')")
    assert code not in await visit.page.content()
    assert visit.complaints == []


async def test_it_is_copied(visit: Visit) -> None:
    await visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    _, code = await submitted(visit)
    await visit.page.click("text=Copy code")
    await visit.page.wait_for_selector(".said:has-text('Copied.')")
    assert await visit.page.evaluate("navigator.clipboard.readText()") == code


@ON_EACH_SCREEN
@pytest.mark.parametrize("refuses", ["no clipboard", "no permission"])
async def test_a_browser_that_does_not_copy_says_so_and_selects_it(visit: Visit, refuses: str) -> None:
    await visit.page.add_init_script(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
        if refuses == "no clipboard"
        else "navigator.clipboard.writeText = async () => { throw new DOMException('denied', 'NotAllowedError') }"
    )
    _, code = await submitted(visit)
    await visit.page.click("text=Copy code")
    await visit.page.wait_for_selector(".said:has-text('The code is selected: press Ctrl+C')")
    selected = await visit.page.evaluate("getSelection().toString()")
    assert selected.replace(" ", "") == code
    assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.complaints == []


async def test_it_is_saved_as_a_file_that_can_be_pasted_whole(visit: Visit, tmp_path: Path) -> None:
    intake, code = await submitted(visit)
    async with visit.page.expect_download() as saving:
        await visit.page.click("text=Save as a file")
    saved = await saving.value
    assert saved.suggested_filename == "key-status-code.txt"
    await saved.save_as(tmp_path / "saved.txt")
    text = (tmp_path / "saved.txt").read_text()
    assert f"Paste it at {visit.url}/status/{intake}" in text
    assert visit.complaints == [], "the policy lets it"
    await visit.paste(intake, text)
    assert await visit.title() == "The key is in use"
    assert code not in await visit.page.content()


def grouped(code: str, between: str) -> str:
    return between.join(code[start : start + 4] for start in range(0, 32, 4))


async def test_it_is_found_in_whatever_it_was_kept_as(visit: Visit) -> None:
    intake, code = await submitted(visit)
    for kept in (
        code,
        f"  {code}\n",
        grouped(code, " "),
        grouped(code, "\n> "),
        grouped(code, "-"),
        grouped(code, " \u2013 "),
        f"Your code: {grouped(code, '-')}.",
        f"\u201c{code[:16]}\u200b=\r\n{code[16:]}\u201d",
    ):
        await visit.paste(intake, kept)
        assert await visit.title() == "The key is in use", kept
        assert await visit.page.query_selector("#by-link") is None
    assert visit.complaints == []


async def test_each_wrong_code_has_its_own_words_and_is_not_sent(visit: Visit) -> None:
    await visit.page.goto(f"{visit.url}/status/int_{'0' * 32}")
    code = link_secret.new()
    for typed, said in (
        ("", "Paste the code first."),
        (code[:-1], "The code is not complete"),
        (code[:-1] + ("A" if code[-1] != "A" else "B"), "wrong or missing"),
    ):
        await visit.page.fill("#status-code", typed)
        await visit.page.keyboard.press("Enter")
        await visit.page.wait_for_selector(f"#code-verdict:has-text('{said}')")
        assert await visit.page.evaluate("document.activeElement.id") == "status-code"
    assert await visit.page.get_attribute("#status-code", "autocomplete") == "off"
    assert not any(request.method == "POST" for request in visit.requests)
    await visit.page.fill("#status-code", code)
    await visit.page.keyboard.press("Enter")
    await visit.page.wait_for_selector("h1:has-text('This link does not work')")


@pytest.mark.parametrize("cause", ["no connection", "a gateway's page"])
async def test_where_the_answer_is_lost_the_code_tells_that_the_key_arrived(visit: Visit, cause: str) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")

    async def lose(route: Route) -> None:
        await route.fetch()
        await (route.abort() if cause == "no connection" else route.fulfill(status=504, body="<html>"))

    await visit.page.route("**/submit", lose)
    await visit.open(link)
    await visit.submit(visit.world.upstream_keys["acme"])
    assert await visit.title() == "Thank you. The key was received and works"
    assert visit.world.upstream_keys["acme"][-4:] in await visit.page.inner_text(".facts")
    await visit.paste(link[0], await visit.code())
    assert await visit.title() == "The key is in use"


async def test_a_submission_that_was_lost_on_its_way_is_sent_again(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    await visit.page.route("**/submit", lambda route: route.abort())
    await visit.submit(visit.world.upstream_keys["acme"])
    assert "It is still in the field; try again." in await visit.page.inner_text("#trouble")
    await visit.page.unroute("**/submit")
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("h1:has-text('Thank you')")


async def test_while_nobody_knows_whether_it_arrived_the_code_is_shown(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")

    async def lose(route: Route) -> None:
        await route.fetch()
        await visit.context.set_offline(True)
        await route.abort()

    await visit.page.route("**/submit", lose, times=1)
    await visit.open(link)
    await visit.page.fill("#key", visit.world.upstream_keys["acme"])
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("h2:has-text('It is not known whether the key arrived')")
    code = await visit.code()
    await visit.shot("unknown")
    # when it is tried again, nothing is lost or doubled
    await visit.context.set_offline(False)
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("h1:has-text('Thank you. The key was received and works')")
    assert await visit.code() == code


async def test_a_challenge_that_is_over_is_asked_for_again(visit: Visit) -> None:
    intake, code = await submitted(visit)
    late = True

    async def wait(route: Route) -> None:
        nonlocal late
        answer = await route.fetch()
        if late:
            late = False
            visit.world.clock.forward(seconds=121)
        await route.fulfill(response=answer)

    await visit.page.route("**/challenge", wait)
    await visit.paste(intake, code)
    assert await visit.title() == "The key is in use"
