"""The customer's page in a real browser, on desktop in light and on a phone in dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from broker.base.strangers import WINDOW_MS
from broker.formats import link_secret
from broker.sandbox.state import Faults
from tests.page.conftest import Visit

NEVER_MINTED = "rc_live_" + "Z" * 64
ON_EACH_SCREEN = pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "broker/web/pages/script"


def expected(complaints: list[str]) -> list[str]:
    """What the browser says of an answer that is an error, and nothing else."""
    return [text for text in complaints if not text.startswith("Failed to load resource: the server responded")]


async def no_overflow(visit: Visit) -> bool:
    """Nothing is wider than the screen."""
    return bool(await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@ON_EACH_SCREEN
async def test_a_key_is_sealed_in_the_browser_and_received(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme", purpose="Nightly synchronisation")
    await visit.open(link)
    text = await visit.page.inner_text("main")
    for told in (
        "Gridwise Compliance",
        "Acme",
        "ada",
        "Nightly synchronisation",
        "Open Settings, then API keys.",
        "new key",
    ):
        assert told in text
    key = visit.world.upstream_keys["acme"]
    await visit.submit(key)
    assert await visit.title() == "Thank you. The key was received and works"
    receipt = await visit.page.inner_text("main")
    assert key[-4:] in receipt
    assert f"{visit.url}/status/{link[0]}" in receipt
    code = await visit.code()
    assert await no_overflow(visit)
    await visit.page.click("text=See the status of the key")
    await visit.page.wait_for_selector("h1:has-text('The key is in use')")
    assert visit.page.url == f"{visit.url}/status/{link[0]}"
    # the key left the browser sealed only, and the link's secret and the code not at all
    sent = [f"{request.url} {request.post_data} {request.headers}" for request in visit.requests]
    assert not any(secret in text for secret in (key, link[1], code) for text in sent)
    assert all(request.url.startswith(visit.url) for request in visit.requests), "no third party"
    assert key not in await visit.page.content()
    storage = await visit.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert storage == '[{},{},""]'
    assert visit.complaints == [], "no policy was violated"


async def test_the_fragment_leaves_the_address_bar_and_is_forgotten_once_a_key_was_submitted(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.open(link)
    assert visit.page.url == f"{visit.url}/intake/{link[0]}"
    assert link[1] not in await visit.page.content()
    await visit.submit(visit.world.upstream_keys["acme"])
    assert link[1] not in await visit.page.evaluate("JSON.stringify(history.state)")
    await visit.page.reload()
    await visit.page.wait_for_selector("h1")
    assert await visit.title() == "Open your link again"
    await visit.page.click("text=paste your status code")
    await visit.page.wait_for_selector("h1:has-text('Paste your status code')")


@pytest.mark.parametrize("lost", ["reloaded", "left and come back to"])
async def test_a_page_that_the_browser_dropped_comes_back_to_the_form(visit: Visit, lost: str) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.open(link)
    assert "Keep this page open while you fetch the key" in await visit.page.inner_text("#keep-open")
    if lost == "reloaded":
        await visit.page.reload()
    else:
        await visit.page.goto("about:blank")
        await visit.page.go_back()
    await visit.page.wait_for_selector("h1")
    assert await visit.title() == "Gridwise Compliance asks for your Raptor Comply API key"
    assert visit.page.url == f"{visit.url}/intake/{link[0]}"
    await visit.submit(visit.world.upstream_keys["acme"])
    assert await visit.title() == "Thank you. The key was received and works"
    assert visit.complaints == []


async def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    assert await visit.page.evaluate("document.activeElement.tagName") == "H1"
    for _ in range(10):
        await visit.page.keyboard.press("Tab")
        if await visit.page.evaluate("document.activeElement.id") == "key":
            break
    await visit.page.keyboard.insert_text(visit.world.upstream_keys["acme"])
    await visit.page.keyboard.press("Enter")
    await visit.page.wait_for_selector("text=Thank you")
    assert await visit.page.evaluate("document.activeElement.tagName") == "H1", "focus is on the new state"


async def test_a_screen_reader_finds_names_and_descriptions(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    field = visit.page.get_by_label("Raptor Comply API key")
    assert await field.get_attribute("aria-describedby") == "key-hint key-verdict"
    assert await visit.page.get_by_role("button", name="Seal and submit").count() == 1
    await field.fill("rc_live_abc")
    assert await field.get_attribute("aria-invalid") == "true"
    assert await visit.page.locator("#key-verdict").get_attribute("role") == "status"
    show = visit.page.get_by_role("button", name="Show")
    await show.click()
    assert await field.get_attribute("type") == "text"
    assert await visit.page.get_by_role("button", name="Hide").get_attribute("aria-pressed") == "true"
    assert await visit.page.locator("html").get_attribute("lang") == "en"
    for name in ("autocomplete", "spellcheck", "autocapitalize"):
        assert await field.get_attribute(name) in {"off", "false"}


JUDGED = {
    "sk_live": "begins with “rc_live_”",
    "rc_live_" + "a" * 52: "It starts right; 12 characters missing",
    "rc_live_" + "a" * 63: "1 character missing",
    "rc_live_" + "a" * 70: "6 characters too long",
    "rc_live_a b": "a space",
    "rc_live_" + "-" * 64: "does not look like",
    "  rc_live_" + "a" * 64 + "  ": "looks like a complete API key",
}


async def test_the_format_is_checked_while_typing(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    for typed, said in JUDGED.items():
        await visit.page.fill("#key", typed)
        assert said in await visit.page.inner_text("#key-verdict")
        trimmed = "Spaces and invisible characters were removed." if typed.startswith(" ") else ""
        assert await visit.page.inner_text("#key-taken") == trimmed


async def test_a_malformed_key_is_not_sent(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    for typed in ("", "rc_live_short"):
        await visit.page.fill("#key", typed)
        await visit.page.click("button[type=submit]")
        assert await visit.page.evaluate("document.activeElement.id") == "key"
    assert not any(request.url.endswith("/submit") for request in visit.requests)


@ON_EACH_SCREEN
async def test_a_refused_key_can_be_replaced_in_place(visit: Visit) -> None:
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    await visit.submit(NEVER_MINTED)
    assert "says that this key is not valid" in await visit.page.inner_text("#trouble")
    assert await visit.page.inner_text("#key-verdict") == "", "it no longer looks good"
    assert await visit.page.get_attribute("#key", "aria-invalid") == "true"
    await visit.shot("refused")
    assert await visit.page.evaluate("document.activeElement.textContent") == "The key was not accepted"
    assert await no_overflow(visit)
    await visit.submit(visit.world.upstream_keys["acme"])
    assert await visit.title() == "Thank you. The key was received and works"
    assert expected(visit.complaints) == []


async def test_a_key_of_another_organization_says_what_to_check(visit: Visit) -> None:
    await visit.world.key_for("globex")
    await visit.world.organization("acme")
    await visit.open(await visit.world.request_key("acme"))
    await visit.submit(visit.world.upstream_keys["globex"])
    assert "signed in to the right organization" in await visit.page.inner_text("#trouble")


@ON_EACH_SCREEN
async def test_while_upstream_is_down_nobody_has_to_paste_again(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.open(link)
    visit.world.upstream.faults = Faults(outage=True)
    await visit.submit(visit.world.upstream_keys["acme"])
    assert await visit.title() == "Thank you. The key was received"
    assert "You do not need to paste it again" in await visit.page.inner_text("main")
    code = await visit.code()
    await visit.paste(link[0], code)
    assert await visit.title() == "The key is sealed and waits to be checked"
    assert "not yet" in await visit.page.inner_text(".timeline")
    # later
    visit.world.upstream.faults = Faults()
    visit.world.clock.forward(seconds=61)
    await visit.world.broker.worker.once()
    await visit.paste(link[0], code)
    await visit.page.wait_for_selector("text=The key is in use")
    assert await no_overflow(visit)


async def test_a_held_key_says_that_the_vendor_decides(visit: Visit) -> None:
    await visit.world.key_for("acme")
    other = visit.world.upstream.add_organization("empty", facilities=0)
    await visit.open(await visit.world.request_key("acme", label="second"))
    await visit.submit(visit.world.upstream.add_key(other)[1])
    assert "The vendor will look at it" in await visit.page.inner_text("main")


async def test_a_used_link_shows_nothing_and_leads_to_where_the_code_is_pasted(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.world.submit(*link, visit.world.upstream_keys["acme"])
    await visit.open(link)
    assert await visit.title() == "A key was submitted over this link"
    assert visit.world.upstream_keys["acme"][-4:] not in await visit.page.inner_text("main")
    await visit.page.click("text=the status page")
    await visit.page.wait_for_selector("h1:has-text('Paste your status code')")
    assert visit.page.url == f"{visit.url}/status/{link[0]}"


async def test_a_link_that_is_spent_meanwhile_says_so(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.open(link)
    await visit.world.submit(*link, visit.world.upstream_keys["acme"])
    await visit.submit(NEVER_MINTED)
    assert await visit.title() == "This link was used already"


@ON_EACH_SCREEN
async def test_every_other_link_has_its_own_page(visit: Visit) -> None:
    await visit.world.organization("acme")
    cancelled = await visit.world.request_key("acme", label="one")
    expired = await visit.world.request_key("acme", label="two", hours=1)
    await visit.world.call("POST", f"/v1/intakes/{cancelled[0]}/cancel")
    visit.world.clock.forward(hours=2)
    for link, title in (
        (cancelled, "This request was cancelled"),
        (expired, "This link has expired"),
        ((expired[0], expired[1][:-5]), "The link is not complete"),
        ((expired[0], link_secret.new()), "This link does not work"),
        (("int_" + "0" * 32, link_secret.new()), "This link does not work"),
    ):
        await visit.page.goto("about:blank")
        await visit.open(link)
        await visit.page.wait_for_selector(f"h1:has-text('{title}')")
        assert await no_overflow(visit)
    assert expected(visit.complaints) == []


async def test_without_a_connection_the_key_stays_in_the_field(visit: Visit) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")
    await visit.open(link)
    await visit.context.set_offline(True)
    await visit.submit(visit.world.upstream_keys["acme"])
    assert "there is no connection" in await visit.page.inner_text("#trouble")
    assert "looks like a complete API key" in await visit.page.inner_text("#key-verdict"), "nobody refused it"
    assert await visit.page.input_value("#key") == visit.world.upstream_keys["acme"]
    await visit.context.set_offline(False)
    await visit.page.click("button[type=submit]")
    await visit.page.wait_for_selector("text=Thank you")


async def test_too_many_wrong_links_say_when_to_try_again(visit: Visit) -> None:
    # tries are counted for ten minutes by the clock: these must not fall into two of them
    visit.world.clock.forward(seconds=(WINDOW_MS - visit.world.clock() % WINDOW_MS) // 1000 + 1)
    await visit.world.organization("acme")
    intake, _ = await visit.world.request_key("acme")
    for _ in range(21):
        await visit.world.open(intake, link_secret.new())
    await visit.open((intake, link_secret.new()))
    await visit.page.wait_for_selector("h1:has-text('Too many attempts')")
    assert "ten minutes" in await visit.page.inner_text("main")


async def test_the_broker_down_is_said_in_plain_words(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    await visit.world.organization("acme")
    link = await visit.world.request_key("acme")

    async def down(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(type(visit.world.services.links), "proved", down)
        await visit.open(link)
        assert await visit.title() == "Not available just now"
    await visit.page.get_by_role("button", name="Try again").click()
    await visit.page.wait_for_selector("h1:has-text('asks for your Raptor Comply API key')")


async def test_a_second_link_for_one_key_says_so_and_asks_for_nothing_once_it_was_given(visit: Visit) -> None:
    await visit.world.organization("acme")
    first, second = await visit.world.request_key("acme"), await visit.world.request_key("acme")
    await visit.open(second)
    assert "More than one link was sent for this key" in await visit.page.inner_text("main")
    await visit.world.submit(*first, visit.world.upstream_keys["acme"])
    # when a key is submitted over the other one all the same
    await visit.submit(visit.world.new_key("acme"))
    assert await visit.title() == "A key was already given"
    assert "nothing to do" in await visit.page.inner_text("main")
    # and when it is only opened
    await visit.page.goto("about:blank")
    await visit.open(second)
    assert await visit.title() == "A key was already given"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the page's folder in which its script was built as ``make page`` does, beside what was built."""
    if shutil.which("npm") is None:
        pytest.skip("no npm here; the script is built where there is one")
    root = tmp_path_factory.mktemp("built")
    copy = root / "web" / "pages" / "script"
    shutil.copytree(PAGE, copy, ignore=shutil.ignore_patterns("node_modules"))
    (root / "web" / "pages" / "static").mkdir()
    (root / "client").mkdir()
    shutil.copy(ROOT / "broker/client/verify.js", root / "client")
    (command,) = re.findall(r"^\tcd \S+ && (npm .+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "--ignore-scripts" in command, "what is installed runs nothing of its own here"
    subprocess.run(["sh", "-c", command], cwd=copy, check=True, capture_output=True)
    return copy


@pytest.mark.parametrize("name", ["intake.js", "login.js", "licences.txt"])
def test_what_is_checked_in_is_what_its_sources_build(built: Path, name: str) -> None:
    assert (built.parent / "static" / name).read_bytes() == (PAGE.parent / "static" / name).read_bytes()


def test_the_licence_of_all_that_is_in_the_script_is_whole(built: Path) -> None:
    licences = (PAGE.parent / "static" / "licences.txt").read_text()
    tools = ("esbuild", "@esbuild/", "@noble/")
    packages = [
        name.removeprefix("node_modules/") for name in json.loads((built / "package-lock.json").read_text())["packages"]
    ]
    bundled = [name for name in packages if name and not name.startswith(tools)]
    assert len(bundled) > 4
    for name in bundled:
        modules = built / "node_modules" / name
        assert f"\n{name} " in licences
        assert (modules / "LICENSE").read_text().strip() in licences, name
        # files that were copied from elsewhere name whose they are
        for source in (modules / "esm").rglob("*.js"):
            for holder in re.findall(r"License \(c\) (\d+ [\w ]+\w)", source.read_text()):
                text = licences.partition(f"Copyright (c) {holder}")[2].partition("=====")[0]
                assert "Permission is hereby granted" in text, (source, holder)
                assert "The above copyright notice and this permission notice shall be included" in text
    assert "/static/licences.txt" in (PAGE.parent / "static" / "intake.js").read_text()[:500], (
        "said to who gets the script"
    )
