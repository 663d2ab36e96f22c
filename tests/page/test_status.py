"""The status page in a real browser: seen, understood and acted on by somebody who is no developer."""

from __future__ import annotations

import io
import re

import pytest
from playwright.async_api import Browser, Route, expect

from broker.client import verify
from broker.formats.certificate_file import CertificateFile
from tests.page.conftest import Visit, file_from, visiting
from tests.support.integrated import integrating
from tests.support.world import World


async def given(visit: Visit) -> tuple[tuple[str, str], str]:
    """A key that was given and used; its intake, status code and credential."""
    world = visit.world
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    job = await world.job("nightly-sync")
    await world.grant(job, "acme")
    lease = await job.lease("acme", ttl=3600)
    for _ in range(4):
        await world.proxied(lease, "/facilities")
    return (intake, world.codes[intake]), (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]


async def title_becomes(visit: Visit, title: str) -> None:
    await visit.page.wait_for_selector(f"h1:has-text('{title}')")


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_they_see_the_key_pause_it_and_resume_it(visit: Visit) -> None:
    link, _ = await given(visit)
    await visit.paste(*link)
    assert await visit.title() == "The key is in use"
    await visit.page.wait_for_selector("td:has-text('4')")
    assert await visit.page.inner_text("tbody th") == "nightly-sync"
    assert await visit.page.get_attribute(".bars svg", "aria-label") == "4 calls in 30 days, at most 4 on one day"
    await visit.shot("active")

    await visit.page.click("text=Pause the key")
    await title_becomes(visit, "The key is paused")
    await visit.page.wait_for_selector("tbody th")
    await visit.shot("paused")
    await visit.page.click("text=Resume the key")
    await title_becomes(visit, "The key is in use")
    assert visit.complaints == []
    overflow = await visit.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not overflow, "nothing is wider than the screen"


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_withdrawing_asks_once_more_and_then_says_what_is_left_to_do(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    await visit.page.click("text=Withdraw the key")
    await visit.page.wait_for_selector("text=Withdraw the key for good?")
    await visit.shot("withdraw")
    await visit.page.click("text=Keep it")
    assert await visit.page.query_selector("text=Withdraw the key for good?") is None

    await visit.page.click("text=Withdraw the key")
    await visit.page.click("text=Withdraw it for good")
    await title_becomes(visit, "The key is no longer used")
    assert "choose Revoke" in await visit.page.inner_text("main")
    assert await visit.page.query_selector("text=What you can do") is None
    await visit.page.wait_for_selector("tbody th")
    await visit.shot("withdrawn")
    assert (await visit.world.call("GET", f"/v1/credentials/{credential}"))["state"] == "revoked"

    visit.world.revoke_upstream(visit.world.upstream_keys["acme"])
    await visit.world.work()
    await visit.page.goto("about:blank")
    await visit.paste(*link)
    assert await visit.title() == "The key is revoked"
    await visit.page.wait_for_selector("tbody th")
    await visit.shot("dead")
    assert visit.complaints == []


async def kept(visit: Visit, button: int = 0) -> bytes:
    """The certificate that the page's button gives."""
    return await file_from(visit.page.locator("button:has-text('Download the certificate')").nth(button))


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_they_read_when_their_key_was_refused_and_keep_the_proof(visit: Visit) -> None:
    # given a key that was replaced, and one that was withdrawn; both are dead
    _, credential = await given(visit)
    world = visit.world
    rotation, intake, secret = await world.rotate(credential)
    new = world.new_key("acme")
    await world.submit(intake, secret, new)
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    await visit.paste(intake, world.codes[intake])
    await visit.page.click("text=Withdraw the key")
    await visit.page.click("text=Withdraw it for good")
    await title_becomes(visit, "The key is no longer used")
    for key in (world.upstream_keys["acme"], new):
        world.revoke_upstream(key)
    await world.work(seconds=5)

    # when the customer looks again, then both say so in plain words
    await visit.page.goto("about:blank")
    await visit.paste(intake, world.codes[intake])
    said = await visit.page.inner_text(".callout")
    assert said.startswith("This key is dead: Raptor Comply refused it on ")
    assert "keeps it sealed for a month" in said
    assert "Ending in" in await visit.page.inner_text(".older")
    assert "This key is dead" in await visit.page.inner_text(".older")
    await visit.page.wait_for_selector("tbody th")
    await visit.shot("certificate")
    overflow = await visit.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not overflow, "nothing is wider than the screen"

    # and each button gives the file of its key, byte for byte as the API has it
    for button, number in enumerate((2, 1)):
        path = f"/v1/credentials/{credential}/versions/{number}/certificate"
        answer = await world.http.get(path, headers=world.admin)
        assert await kept(visit, button) == answer.content
        found = CertificateFile.decode(answer.content).certificate(world.services.parts.keys.certifying.verifier())
        assert (found.version, found.statement) == (number, "dead")
    assert visit.complaints == []


async def file_of(visit: Visit, button: str) -> bytes:
    """The file that a button of the page gives."""
    return await file_from(visit.page.locator(f"button:has-text('{button}')").first)


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_they_keep_a_receipt_of_a_use_and_a_file_that_has_all(visit: Visit) -> None:
    # given a key that was used, and another customer
    link, _ = await given(visit)
    world = visit.world
    await world.organization("globex")
    async with integrating(world):
        # when the customer takes both
        await visit.paste(*link)
        await visit.page.wait_for_selector("button:has-text('Receipt')")
        receipt, whole = await file_of(visit, "Receipt"), await file_of(visit, "Download all events")
        await visit.shot("evidence")
    # then both verify without the vendor, and name nobody
    trusted = verify.keys((await world.http.get("/v1/audit/log/key")).text)
    proven = verify.receipt(receipt.decode(), trusted)
    assert (proven.core["kind"], proven.personal) == ("use.authorized", None)
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    found = verify.export(io.StringIO(whole.decode(), newline="\n"), trusted)
    assert found.organization == acme
    assert proven.core["id"].encode() in whole
    # and that they were given out is on the record, by the customer
    asked = await world.events(kind="audit.exported", organization="acme")
    assert [one["core"]["actor"]["type"] for one in asked] == ["customer", "customer"]
    assert asked[0]["core"]["subject"] == proven.core["id"]
    overflow = await visit.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not overflow, "nothing is wider than the screen"
    assert visit.complaints == []


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_they_verify_a_receipt_where_they_see_it_and_read_what_is_wrong(visit: Visit) -> None:
    link, _ = await given(visit)
    page, said = visit.page, visit.page.locator("td .said").nth(1)
    async with integrating(visit.world):
        await visit.paste(*link)
        await page.get_by_role("button", name="Verify").first.click()
        await expect(said).to_contain_text(
            re.compile(r"^Verified: this call is number \d+ of the \d+ entries of the log")
        )
        await visit.shot("verified")
        # when somebody changes the answer, or gives that of another call, then it is named
        asked: list[str] = []

        async def answer(route: Route) -> None:
            came = await (await route.fetch()).json()
            asked.append(came["file"])
            file = asked[0] if len(asked) > 1 else came["file"].replace("index ", "index 1")
            await route.fulfill(json={"file": file})

        await page.route("**/status/*/receipt", answer)
        await page.get_by_role("button", name="Verify").first.click()
        await expect(said).to_contain_text("NOT verified: the checkpoint is of a smaller log than the event's index.")
        await page.get_by_role("button", name="Verify").nth(1).click()
        await expect(page.locator("td .said").nth(3)).to_contain_text("NOT verified: the receipt is of another event.")
        # and what is not answered is no proof
        await page.route("**/v1/audit/log/key", lambda route: route.abort())
        await page.get_by_role("button", name="Verify").first.click()
        await expect(said).to_contain_text("It could not be fetched just now.")
    assert [text for text in visit.complaints if "ERR_FAILED" not in text] == [], "no policy was violated"


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_a_key_that_works_again_alarms_and_says_what_to_do(visit: Visit) -> None:
    link, credential = await given(visit)
    world = visit.world
    await world.call("POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "Sven", "where": "a mail"})
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()
    key = world.upstream.key_of(world.upstream_keys["acme"])
    assert key is not None
    key.state = "active"
    await world.work(hours=25)
    await visit.paste(*link)
    assert await visit.title() == "The key works again"
    said = await visit.page.inner_text(".callout")
    assert said.startswith("Raptor Comply accepted this key on ")
    assert "that others may have this key" in await visit.page.inner_text(".callout >> nth=1"), "it was exposed"
    assert "choose Revoke" in await visit.page.inner_text("main")
    assert b"accepted-again" in await kept(visit)
    await visit.page.wait_for_selector("h2:has-text('Who used the key')")
    await visit.shot("revived")
    assert visit.complaints == []


async def test_the_proof_is_offered_in_german_as_well(browser: Browser, page_world: tuple[World, str]) -> None:
    async with visiting(browser, page_world, locale="de-DE") as visit:
        link, credential = await given(visit)
        await visit.world.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "over"})
        visit.world.revoke_upstream(visit.world.upstream_keys["acme"])
        await visit.world.work()
        await visit.page.goto(f"{visit.url}/status/{link[0]}#{link[1]}")
        await visit.page.wait_for_selector("text=Bescheinigung herunterladen")
        assert "Dieser Schlüssel ist tot: Raptor Comply hat ihn am " in await visit.page.inner_text(".callout")
        await visit.shot("certificate-german")


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_they_submit_the_next_key_from_here(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.world.rotate(credential)
    await visit.paste(*link)
    assert "The vendor asks for a new key" in await visit.page.inner_text("main")
    await visit.page.click("text=Submit a new key")
    await visit.page.wait_for_selector("#key")
    assert await visit.title() == "Gridwise Compliance asks for your Raptor Comply API key"
    assert "ada, keys@gridwise.example" in await visit.page.inner_text(".facts"), "the vendor asked, and by whom"
    await visit.shot("rotate-form")
    new = visit.world.new_key("acme")
    await visit.submit(new)
    assert await visit.world.states(credential) == ["retiring", "active"]

    await visit.page.goto("about:blank")
    await visit.paste(*link)
    assert new[-4:] in await visit.page.inner_text(".facts")
    assert "still kept for a while" in await visit.page.inner_text(".older")
    await visit.page.wait_for_selector("tbody th")
    await visit.shot("rotated")
    assert visit.complaints == []


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
async def test_after_an_exposure_the_new_key_is_submitted_from_here(visit: Visit) -> None:
    link, credential = await given(visit)
    report = {"found_by": "Sven", "where": "a public repository"}
    await visit.world.call("POST", f"/v1/credentials/{credential}/exposure", json=report)
    await visit.paste(*link)
    assert await visit.title() == "The key is no longer used"
    said = await visit.page.inner_text("main")
    assert "The vendor asks for a new key. Until it is in use, the vendor has no key that works." in said
    assert "keeps working" not in said
    assert await visit.page.query_selector("text=Pause the key") is None
    await visit.page.click("text=Withdraw the key")
    await visit.page.wait_for_selector("text=No other key can take its place here")
    await visit.page.click("text=Keep it")
    await visit.page.wait_for_selector("tbody th")
    await visit.shot("exposed")

    await visit.page.click("text=Submit a new key")
    await visit.page.wait_for_selector("#key")
    assert "The key you gave before is out of use" in await visit.page.inner_text("main")
    await visit.shot("exposed-form")
    new = visit.world.new_key("acme")
    await visit.submit(new)
    assert await visit.world.states(credential) == ["revoked", "active"]

    await visit.page.goto("about:blank")
    await visit.paste(*link)
    assert await visit.title() == "The key is in use"
    assert new[-4:] in await visit.page.inner_text(".facts")
    assert visit.complaints == []


async def test_who_wants_to_replace_a_key_is_not_asked_for_one(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    await visit.page.click("text=Submit a new key")
    await visit.page.wait_for_selector("#key")
    assert await visit.title() == "You want to replace your Raptor Comply API key"
    facts = await visit.page.inner_text(".facts")
    assert "Asked by\nYou, admin@acme.example\n" in facts
    assert "admin@acme.example, keys@gridwise.example" not in facts
    assert "Questions\nkeys@gridwise.example" in facts
    assert "paste your status code once more and choose “Submit a new key”" in await visit.page.inner_text("#keep-open")
    await visit.shot("own-wish")
    await visit.submit(visit.world.new_key("acme"))
    assert await visit.world.states(credential) == ["retiring", "active"]


async def test_a_new_key_that_waits_is_told_of_and_can_be_withdrawn(visit: Visit) -> None:
    link, credential = await given(visit)
    rotation = await visit.world.rotate(credential)
    stranger = visit.world.upstream.add_organization("empty", facilities=0)
    await visit.world.submit(rotation[1], rotation[2], visit.world.upstream.add_key(stranger)[1])
    await visit.paste(*link)
    said = await visit.page.inner_text("main")
    assert "A new key was submitted; it waits to be checked, or for the vendor. The present one keeps working" in said
    assert await visit.page.query_selector("text=Submit a new key") is None
    assert await visit.page.query_selector("text=Pause the key") is not None
    await visit.page.wait_for_selector("tbody th")
    await visit.shot("waits")

    await visit.page.goto("about:blank")
    await visit.paste(rotation[1], visit.world.codes[rotation[1]])
    assert await visit.title() == "The key works and waits for the vendor"
    assert "The key before it keeps working until this one is in use." in await visit.page.inner_text("main")
    await visit.shot("held")
    await visit.page.click("text=Withdraw the key")
    await visit.page.click("text=Withdraw it for good")
    await title_becomes(visit, "The key is no longer used")
    assert await visit.world.states(credential) == ["revoked", "revoked"]


async def test_the_keyboard_alone_pauses(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    await visit.page.focus("text=Pause the key")
    await visit.page.keyboard.press("Enter")
    await title_becomes(visit, "The key is paused")
    assert (await visit.world.call("GET", f"/v1/credentials/{credential}"))["paused_at"] is not None


async def test_a_decision_that_can_not_be_carried_out_says_what_to_do(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    await visit.world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    await visit.page.click("text=Pause the key")
    await visit.page.wait_for_selector(".progress:has-text('The key is used no longer')")
    await visit.context.set_offline(True)
    await visit.page.click("text=Pause the key")
    await visit.page.wait_for_selector(".progress:has-text('Check your internet connection')")
    assert (await visit.world.call("GET", f"/v1/credentials/{credential}"))["paused_at"] is None


async def test_moments_name_the_zone_of_who_reads_them(browser: Browser, page_world: tuple[World, str]) -> None:
    link: tuple[str, str] | None = None
    for zone, named in (("UTC", "UTC"), ("Europe/Berlin", "CET"), ("America/New_York", "GMT-5")):
        async with visiting(browser, page_world, timezone_id=zone) as visit:
            link = link or (await given(visit))[0]
            await visit.paste(*link)
            await visit.page.wait_for_selector("tbody th")
            moments = await visit.page.locator("time").all_inner_texts()
            assert len(moments) > 4
            assert all(moment.endswith(f" {named}") for moment in moments), moments
            assert "days go by UTC." in await visit.page.inner_text("main")


async def test_what_has_a_word_of_its_own_is_explained(visit: Visit) -> None:
    link, _ = await given(visit)
    await visit.paste(*link)
    said = await visit.page.inner_text("main")
    assert "A job is a program of Gridwise Compliance’s that runs by itself" in said
    assert "A short name made from the key, which tells nothing about the key itself" in said
    await visit.open(await visit.world.request_key("acme", label="second"))
    assert "Sealing locks the key in this browser, so that only" in await visit.page.inner_text("main")
