"""Links that were changed on their way are put right by the page, or it says what became of them."""

from __future__ import annotations

import pytest

from broker.formats import link_secret
from tests.page.conftest import Visit
from tests.support import changed_links
from tests.support.links import old_link, old_status_link


async def arrive(visit: Visit, page: str, intake: str, end: str) -> str:
    """Open a changed link in the tab; the heading once there is one."""
    await visit.page.goto("about:blank")
    await visit.page.goto(f"{visit.url}/{page}/{intake}{end}")
    await visit.page.wait_for_selector("h1")
    return await visit.title()


async def status_link(visit: Visit, label: str = "default") -> tuple[str, str]:
    """The status link of a key that was given when there were no codes."""
    intake, secret = await visit.world.request_key("acme", label=label)
    await visit.world.submit(intake, secret, visit.world.upstream_keys["acme"])
    return intake, await old_status_link(visit.world, intake)


async def test_what_was_added_to_a_link_is_taken_away(visit: Visit) -> None:
    await visit.world.organization("acme")
    intake, secret = await visit.world.request_key("acme")
    for end in changed_links.kept(secret):
        assert (
            await arrive(visit, "intake", intake, end) == "Gridwise Compliance asks for your Raptor Comply API key"
        ), end
        assert visit.page.url == f"{visit.url}/intake/{intake}", "the address is put right"
        assert await visit.page.query_selector("#was-sent") is None
    assert not any(secret in f"{request.url}{request.headers}{request.post_data}" for request in visit.requests)
    assert await visit.world.call("GET", "/v1/notices") == {"items": [], "next": None}
    await visit.submit(visit.world.upstream_keys["acme"])
    assert await visit.title() == "Thank you. The key was received and works"
    assert visit.complaints == []


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_a_link_that_was_sent_to_servers_goes_on_and_operators_are_told_once(visit: Visit) -> None:
    await visit.world.organization("acme")
    intake, secret = await visit.world.request_key("acme")
    for end in changed_links.sent(secret):
        assert (
            await arrive(visit, "intake", intake, end) == "Gridwise Compliance asks for your Raptor Comply API key"
        ), end
        assert visit.page.url == f"{visit.url}/intake/{intake}"
        assert "may send you a new link" in await visit.page.inner_text("#was-sent")
    notices = (await visit.world.call("GET", "/v1/notices"))["items"]
    assert [notice["kind"] for notice in notices] == ["link_logged"]
    assert f"broker key link {intake}" in notices[0]["text"]
    assert len(await visit.world.events(kind="intake.link_logged")) == 1
    assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await visit.shot("was-sent")
    await visit.submit(visit.world.upstream_keys["acme"])
    assert await visit.title() == "Thank you. The key was received and works"
    assert visit.complaints == []


async def test_a_status_link_is_put_right_as_well(visit: Visit) -> None:
    await visit.world.organization("acme")
    intake, secret = await status_link(visit)
    for end in changed_links.kept(secret)[::5]:
        assert await arrive(visit, "status", intake, end) == "The key is in use", end
        assert "history keeps such links" in await visit.page.inner_text("#by-link")
    assert await visit.world.call("GET", "/v1/notices") == {"items": [], "next": None}
    for end in changed_links.sent(secret)[::5]:
        assert await arrive(visit, "status", intake, end) == "The key is in use", end
        assert await visit.page.query_selector("#was-sent") is not None
    assert visit.page.url == f"{visit.url}/status/{intake}"
    assert [one["kind"] for one in (await visit.world.call("GET", "/v1/notices"))["items"]] == ["status_link_logged"]
    assert visit.complaints == []


async def test_every_way_to_lose_a_part_of_a_link_has_its_own_words(visit: Visit) -> None:
    await visit.world.organization("acme")
    intake, secret = await visit.world.request_key("acme")
    altered = secret[:9] + ("A" if secret[9] != "A" else "B") + secret[10:]
    assert len(secret) == 54
    for end, title in (
        ("", "The link ends too early"),
        ("#", "The link ends too early"),
        ("%23", "The link ends too early"),
        (".", "The link ends too early"),
        ("?utm_source=mail&utm_campaign=a-long-campaign-of-ours", "The link ends too early"),
        (f"#{secret[:-5]}", "The link is not complete"),
        (f"#{secret[:33]}", "The link is not complete"),
        (f"#{secret[:-5]}?utm_campaign=a-long-campaign-of-ours", "The link is not complete"),
        (f"%23{secret[:-5]}", "The link is not complete"),
        (f"#{altered}", "The link was changed on its way"),
        (f"#{link_secret.new()}", "This link does not work"),
    ):
        assert await arrive(visit, "intake", intake, end) == title, end
    assert await arrive(visit, "intake", intake, "") == "The link ends too early"
    assert "a mail filter or something else on the way cut the link" in await visit.page.inner_text("main")
    await visit.page.reload()
    await visit.page.wait_for_selector("h1:has-text('Open your link again')")
    assert "your mail program cut the link at the “#”" in await visit.page.inner_text("main")


async def test_a_link_that_is_pasted_over_an_open_page_is_put_right(visit: Visit) -> None:
    await visit.world.organization("acme")
    intake, secret = await visit.world.request_key("acme")
    assert await arrive(visit, "intake", intake, f"#{secret[:-3]}") == "The link is not complete"
    await visit.page.goto(f"{visit.url}/intake/{intake}#{secret}%3E")
    await visit.page.wait_for_selector("h1:has-text('asks for')")
    assert visit.page.url == f"{visit.url}/intake/{intake}"


async def test_a_link_from_before_works_and_says_that_it_is_old(visit: Visit) -> None:
    await visit.world.organization("acme")
    intake, secret = await old_link(visit.world, "acme")
    assert (
        await arrive(visit, "intake", intake, f"#{secret}") == "Gridwise Compliance asks for your Raptor Comply API key"
    )
    assert "does not say whom the key is to be sealed to" in await visit.page.inner_text("#old-link")
    await visit.submit(visit.world.upstream_keys["acme"])
    assert await visit.title() == "Thank you. The key was received and works"
    await visit.paste(intake, await visit.code())
    assert await visit.title() == "The key is in use"
    fresh = await visit.world.request_key("acme", label="second")
    await visit.open(fresh)
    assert await visit.page.query_selector("#old-link") is None
