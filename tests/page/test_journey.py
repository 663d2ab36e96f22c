"""One key's whole story, by everybody whom it is about: each at a browser of their own, signed in as they would be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from broker import app as composition
from broker.client import verify
from tests.page.conftest import Visit, file_from, visiting
from tests.page.test_page import expected
from tests.page.test_sign_in import at_a_name, devices_of, invited
from tests.support.integrated import integrating
from tests.support.world import World


@pytest.fixture
async def page_world(tmp_path: Path, sqlite_url: str) -> AsyncIterator[tuple[World, str]]:
    async with at_a_name(tmp_path, sqlite_url, "localhost", reveal_approval="on") as made:
        yield made


async def at_their_desk(visit: Visit, link: str) -> Page:
    """A person's browser, signed in by a link and a passkey that they made."""
    page = visit.page
    await devices_of(visit)
    await page.goto(link)
    await page.get_by_role("button", name="Use the link").click()
    await page.get_by_label("Where is it?").fill("laptop")
    await page.get_by_role("button", name="Make a passkey").click()
    await expect(page.get_by_role("heading", name="Make a second one")).to_be_visible()
    await page.goto(f"{visit.url}/console")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return page


async def made_apart(world: World) -> str:
    """The link of a second admin, whose token was printed on the server."""
    token = await composition.bootstrap_token(world.services, replace=True)
    made = await world.call("POST", "/v1/bootstrap", as_={}, status=201, json={"token": token, "name": "sam"})
    return str(made["link"])


async def asked_for(page: Page) -> str:
    """The link with which a customer is asked for a key, who wasn't known before."""
    await page.get_by_role("link", name="Customers").click()
    await page.get_by_role("link", name="Add a customer").first.click()
    await page.get_by_label("Slug").fill("acme-power")
    await page.get_by_label("Name").fill("Acme Power")
    await page.get_by_role("button", name="Add the customer").click()
    await page.get_by_role("link", name="Ask for a key").first.click()
    await expect(page.get_by_label("Provider")).to_have_value("")
    await page.get_by_label("Provider").select_option("raptor-comply")
    await page.get_by_label("E-mail address").fill("ann@acme.example")
    await page.get_by_label("What the key is for").fill("nightly synchronisation of facilities")
    await page.get_by_role("button", name="Make the link").click()
    link = await page.get_by_label("One-time link").input_value()
    assert link in await page.get_by_label("Message that is ready to be sent").input_value()
    return link


def upstream_key(world: World) -> str:
    """The key that the customer's admin makes at the provider."""
    there = world.upstream.add_organization("acme-power", 3)
    world.upstream_keys["acme-power"] = world.upstream.add_key(there)[1]
    return world.upstream_keys["acme-power"]


async def test_a_key_is_asked_for_given_used_proven_and_contained(
    browser: Browser, page_world: tuple[World, str]
) -> None:
    world, url = page_world
    async with (
        visiting(browser, page_world) as operator,
        visiting(browser, page_world) as customer,
        visiting(browser, page_world) as security,
        integrating(world),
    ):
        olga = await at_their_desk(operator, await invited(world, "olga", "operator"))
        sam = await at_their_desk(security, await made_apart(world))

        # given a link that the operator makes, the customer gives a key by it
        await customer.page.goto(await asked_for(olga))
        key = upstream_key(world)
        await customer.submit(key)
        assert await customer.title() == "Thank you. The key was received and works"
        code, intake = await customer.code(), customer.page.url.rpartition("/")[2].partition("#")[0]
        await olga.goto(f"{url}/console/organizations/acme-power")
        await expect(olga.get_by_role("listitem").filter(has_text="Version 1")).to_contain_text("active")

        # when a job is to see keys, then a second person has to approve that, and the first can't
        job = await world.job("nightly-sync")
        await world.grant(job, "acme-power", modes=("use", "reveal"))
        assert (await job.ask("acme-power")).status_code == 403
        await sam.reload()
        await sam.get_by_role("link", name="raptor-comply").first.click()
        await sam.get_by_role("button", name="Approve").click()
        await expect(sam.get_by_role("heading", name="nightly-sync on acme-power")).to_be_visible()
        await expect(sam.get_by_role("heading", name="It waits for a second person")).to_have_count(0)

        # when the job uses the key, then security finds that very use, and its proof
        lease = await job.lease("acme-power", purpose="the nightly run")
        assert (await world.proxied(lease, "/facilities")).status_code == 200
        event = await found_use(sam)
        await sam.get_by_role("button", name="Verify in this browser").click()
        await expect(sam.get_by_role("status")).to_contain_text("Verified: event")
        proven = verify.receipt(
            (await file_from(sam.get_by_role("link", name="Download the receipt"))).decode(),
            verify.keys((await world.http.get("/v1/audit/log/key")).text),
        )
        assert (proven.core["kind"], proven.core["id"]) == ("use.authorized", event)

        # when security contains the key, then the job is cut off, and the customer is told at their own page
        await contained(sam, url)
        assert (await world.proxied(lease, "/facilities")).json()["code"] == "lease_over"
        await customer.page.goto("about:blank")
        await customer.paste(intake, code)
        assert await customer.title() == "The key is no longer used"
        told = await customer.page.inner_text(".callout >> nth=1")
        assert told.startswith("Gridwise Compliance learnt on ")
        assert "others may have this key" in told
        for visit in (operator, customer, security):
            assert key not in await visit.page.content()
            assert not any(key in f"{request.url} {request.post_data}" for request in visit.requests), "sealed"
            assert all(request.url.startswith((url, "blob:")) for request in visit.requests), "no third party"
            assert expected(visit.complaints) == []


async def found_use(page: Page) -> str:
    """The id of the one use of a customer's key, whose page is shown."""
    await page.get_by_role("link", name="Audit").click()
    await page.get_by_label("Customer").fill("acme-power")
    await page.get_by_label("What").select_option("use.*")
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("link", name="use.authorized").click()
    await expect(page.get_by_role("heading", name="use.authorized")).to_be_visible()
    return page.url.rpartition("/")[2]


async def contained(page: Page, url: str) -> None:
    """Report the key of the shown use as exposed."""
    await page.get_by_role("link", name="crd_").click()
    await page.get_by_role("link", name="Report exposed").click()
    await expect(page.locator("main")).to_contain_text("nightly-sync")
    await page.get_by_label("Who found it").fill("a customer's auditor")
    await page.get_by_label("Where").fill("a public repository")
    await page.get_by_role("button", name="Cut it off").click()
    await expect(page.locator("main")).to_contain_text("Send this link")
    await page.goto(f"{url}/console/incidents?state=open")
    await page.get_by_role("link", name="raptor-comply").first.click()
    await page.get_by_role("link", name="Show the timeline").click()
    await expect(page.get_by_role("heading", name="Who used it since")).to_be_visible()
