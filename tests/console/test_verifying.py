"""An event is verified in the browser: each step is shown as it is proved, and what is wrong is named."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, Route, expect

from broker.audit.events import BROKER, Event
from broker.sandbox.serve import running as serving
from broker.web.console.scripts import scripts
from broker.wire.server import Connection
from tests.console.test_in_browser import AXE, RULES
from tests.page.conftest import browser as browser  # noqa: PLC0414 - the same browser
from tests.page.test_verify import Signer
from tests.support.integrated import integrate, used
from tests.support.world import World, running_world, settings_for, upstream

WITNESS = Signer("witness.example", b"\2" * 32, witness=True)
OVER = re.compile(r"erified")
PROVED = dict.fromkeys(("commitment", "included", "signed"), "proved")
Fold = Callable[[str], str]


@dataclass
class Looking:
    """A browser on the page of one event, and what it asked for and complained of."""

    page: Page
    world: World
    url: str
    event: str
    asked: list[str]
    complaints: list[str]

    async def open(self) -> None:
        """Open the event's page, which can verify once its button is there."""
        await self.page.goto(f"{self.url}/console/audit/{self.event}")
        await expect(self.page.locator("#verify")).to_be_visible()

    async def verify(self) -> str:
        """Press the button; what is said in the end."""
        await self.page.get_by_role("button", name="Verify in this browser").click()
        await expect(self.page.get_by_role("status")).to_contain_text(OVER, timeout=20_000)
        return await self.page.get_by_role("status").inner_text()

    async def steps(self) -> dict[str, str]:
        """The steps by name, each with its state."""
        found: dict[str, str] = await self.page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('[data-step]')].map("
            "(step) => [step.dataset.step, step.querySelector('.state').textContent]))"
        )
        return found

    async def grow(self, events: int) -> None:
        """Record more events, and have the log take them in."""
        world = self.world
        event = Event(kind="audit.read", time=world.clock(), actor=BROKER, subject=self.event)
        await asyncio.gather(*(world.services.parts.audit.append(event) for _ in range(events)))
        await integrate(world)

    async def altering(self, path: str, change: Fold) -> None:
        """Have somebody on the way change what the broker answers there."""

        async def answer(route: Route) -> None:
            came = await route.fetch()
            await route.fulfill(response=came, body=change(await came.text()))

        await self.page.route(path, answer)

    async def remembers(self, **otherwise: object) -> None:
        """Have the browser remember something else of the log than it does."""
        await self.page.evaluate(
            """(otherwise) => {
                const seen = JSON.parse(localStorage.getItem("keybroker.log"));
                for (const origin in seen) Object.assign(seen[origin], otherwise);
                localStorage.setItem("keybroker.log", JSON.stringify(seen));
            }""",
            otherwise,
        )

    async def memory(self) -> str:
        return str(await self.page.evaluate("localStorage.getItem('keybroker.log')"))


@pytest.fixture
async def place(tmp_path: Path, sqlite_url: str) -> AsyncIterator[tuple[World, str, str]]:
    """A broker with a use on its record: the world, its address, and the use's event."""
    async with (
        upstream() as (state, upstream_url),
        running_world(settings_for(tmp_path, sqlite_url, upstream_url), state, upstream_url) as world,
        serving(world.edge, protocol=Connection) as url,
    ):
        yield world, url, (await used(world))["core"]["id"]


@asynccontextmanager
async def sitting(browser: Browser, place: tuple[World, str, str], **options: Any) -> AsyncIterator[Looking]:
    """Somebody of security with a browser of their own; ``options`` are playwright's, of its context."""
    world, url, event = place
    context = await browser.new_context(extra_http_headers=world.admin, **options)
    page = await context.new_page()
    looking = Looking(page, world, url, event, [], [])
    page.on("request", lambda request: looking.asked.append(request.url))
    page.on("console", lambda message: looking.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: looking.complaints.append(str(error)))
    yield looking
    await context.close()


@pytest.fixture
async def looking(browser: Browser, place: tuple[World, str, str]) -> AsyncIterator[Looking]:
    async with sitting(browser, place) as made:
        yield made


async def test_each_step_is_shown_as_it_is_proved(looking: Looking) -> None:
    await looking.open()
    said = await looking.verify()
    assert re.fullmatch(r"Verified: event \d+ \(use\.authorized\) is in the log of \d+ events\.", said)
    assert await looking.steps() == {**PROVED, "cosigned": "no witness", "grown": "first time"}
    commitment = (await looking.world.call("GET", "/v1/audit/events?kind=use.authorized"))["items"][0]["commitment"]
    key = (await looking.world.http.get("/v1/audit/log/key")).text.strip()
    told = await looking.page.inner_text("#steps")
    for fact in (
        commitment,
        "The key that the broker shows now signed the log of ",
        key,
        "number ",
        "by the hashes of the receipt",
    ):
        assert fact in told
    assert (await looking.world.events(kind="audit.exported"))[0]["core"]["subject"] == looking.event
    assert all(url.startswith(looking.url) for url in looking.asked), "no third party"
    assert looking.complaints == [], "no policy was violated"


async def test_by_keyboard_alone_and_the_verdict_is_announced(looking: Looking) -> None:
    await looking.open()
    while await looking.page.evaluate("document.activeElement.textContent") != "Verify in this browser":
        await looking.page.keyboard.press("Tab")
    await looking.page.keyboard.press("Enter")
    await expect(looking.page.get_by_role("status")).to_contain_text("Verified: event")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_is_shown_then_is_accessible_and_fits_a_phone(
    browser: Browser, place: tuple[World, str, str], scheme: Literal["light", "dark"]
) -> None:
    async with sitting(browser, place, viewport={"width": 320, "height": 740}, color_scheme=scheme) as looking:
        await looking.open()
        await looking.verify()
        for otherwise in ({}, {"size": "99999"}):
            await looking.remembers(**otherwise)
            await looking.verify()
            await looking.page.evaluate("for (const more of document.querySelectorAll('details')) more.open = true")
            await looking.page.evaluate(AXE)
            found = await looking.page.evaluate("(tags) => axe.run({runOnly: {type: 'tag', values: tags}})", RULES)
            assert not [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]
            assert await looking.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def of_another_event(receipt: str) -> str:
    title, extra, rest = receipt.split("\n", 2)
    event = base64.b64decode(extra.removeprefix("extra ")).decode().replace("use.authorized", "use.denied")
    return "\n".join([title, "extra " + base64.b64encode(event.encode()).decode(), rest])


def at_another_place(receipt: str) -> str:
    return re.sub(r"\nindex (\d+)\n", lambda found: f"\nindex {int(found[1]) ^ 1}\n", receipt)


def signed_otherwise(receipt: str) -> str:
    return re.sub(r"/0\n(\d+)\n", lambda found: f"/0\n{int(found[1]) + 1}\n", receipt)


@pytest.mark.parametrize(
    ("change", "step", "why"),
    [
        (of_another_event, "commitment", "the receipt is of another event than this page shows"),
        (at_another_place, "included", "the event is not in the log: it was changed, or was never there"),
        (signed_otherwise, "signed", "is wrong"),
        (lambda receipt: receipt[:-2], "signed", "not a signed note"),
        (lambda _: "nothing", "commitment", "not a receipt of an event"),
    ],
)
async def test_what_is_wrong_is_named_at_its_step(looking: Looking, change: Fold, step: str, why: str) -> None:
    await looking.altering("**/v1/audit/receipts/*", change)
    await looking.open()
    said = await looking.verify()
    assert said.startswith("NOT verified: ")
    assert why in said
    steps = await looking.steps()
    assert [name for name, state in steps.items() if state == "wrong"] == [step]
    assert steps["grown"] == "not checked"
    assert await looking.memory() == "None", "what is not verified is not remembered"


async def test_keys_that_were_kept_decide_and_witnesses_among_them_have_to_have_cosigned(looking: Looking) -> None:
    keys = (await looking.world.http.get("/v1/audit/log/key")).text
    await looking.open()
    await looking.page.get_by_text("Keys that you kept", exact=True).click()
    field = looking.page.get_by_label("The log's keys")
    await field.fill(Signer().line())
    assert "no key that you trust signed the checkpoint of keybroker-log/" in await looking.verify()
    await field.fill(keys + WITNESS.line())
    assert "the witness witness.example has not cosigned the checkpoint" in await looking.verify()
    assert (await looking.steps())["cosigned"] == "wrong"

    def cosigned(receipt: str) -> str:
        return receipt + WITNESS.sign(receipt.split("\n\n")[1] + "\n")

    await looking.altering("**/v1/audit/receipts/*", cosigned)
    assert (await looking.verify()).startswith("Verified: event")
    assert (await looking.steps())["cosigned"] == "proved"
    told = await looking.page.inner_text("#steps")
    assert "Cosigned by witness.example." in told
    assert "A key that you kept signed the log" in told


async def test_the_log_is_held_to_what_this_browser_saw_of_it_however_much_it_grew(looking: Looking) -> None:
    await looking.open()
    await looking.verify()
    for more in (1, 250, 2, 600):
        before = json.loads(await looking.memory())
        (size,) = (int(each["size"]) for each in before.values())
        await looking.grow(more)
        assert (await looking.verify()).startswith("Verified: event")
        assert (await looking.steps())["grown"] == "proved"
        assert f"The log begins with the {size:,} events that this browser saw at 20" in await looking.page.inner_text(
            "#steps"
        )
    assert looking.complaints == []


@pytest.mark.parametrize(
    ("otherwise", "more", "why"),
    [
        ({"size": "99999"}, 0, "the log had 99999 events and has "),
        ({"root": base64.b64encode(bytes(32)).decode()}, 0, "two histories have the same number of events"),
        ({"root": base64.b64encode(bytes(32)).decode()}, 9, "the log was rewritten: what it was before is no part"),
    ],
)
async def test_a_log_that_was_cut_off_or_rewritten_is_noticed_and_the_proof_kept(
    looking: Looking, otherwise: dict[str, object], more: int, why: str
) -> None:
    await looking.open()
    await looking.verify()
    await looking.remembers(**otherwise)
    memory = await looking.memory()
    if more:
        await looking.grow(more)
    said = await looking.verify()
    assert said.startswith("NOT verified: ")
    assert why in said
    assert (await looking.steps())["grown"] == "wrong"
    assert "wrong The log begins with what this browser saw of it before." in " ".join(
        (await looking.page.inner_text("#steps")).split()
    )
    assert await looking.memory() == memory
    await looking.page.get_by_text("Both checkpoints", exact=True).click()
    assert (await looking.page.inner_text("#evidence pre")).count("keybroker-log/") == 4


async def test_a_checkpoint_from_before_the_receipt_is_noticed(looking: Looking) -> None:
    before = (await looking.world.http.get("/v1/audit/log/checkpoint")).text
    await looking.grow(3)
    await looking.altering("**/v1/audit/log/checkpoint", lambda _: before)
    await looking.open()
    assert "its end was cut off" in await looking.verify()
    assert before.strip() in (await looking.page.locator("#evidence pre").text_content() or "")


async def test_another_log_or_key_stays_odd_until_somebody_verifies_with_keys_that_they_kept(looking: Looking) -> None:
    keys = (await looking.world.http.get("/v1/audit/log/key")).text
    await looking.open()
    await looking.verify()
    renamed = (await looking.memory()).replace("keybroker-log/", "keybroker-log/of-before/")
    await looking.page.get_by_text("Keys that you kept", exact=True).click()
    field = looking.page.get_by_label("The log's keys")

    async def remembering_a_key() -> None:
        await looking.remembers(signers=["another"])

    async def remembering_a_log() -> None:
        await looking.page.evaluate("(text) => localStorage.setItem('keybroker.log', text)", renamed)

    for remembering, why in (
        (remembering_a_key, "Another key signs than this browser saw."),
        (remembering_a_log, "Another log than this browser knows"),
    ):
        await remembering()
        await field.fill("")
        for _ in range(2):
            said = await looking.verify()
            assert said.startswith("Verified: event")
            assert why in said
        await field.fill(keys)
        assert why not in await looking.verify()
        await field.fill("")
        assert why not in await looking.verify()


async def test_keys_that_are_none_are_named_where_they_are_needed(looking: Looking) -> None:
    await looking.open()
    await looking.page.get_by_text("Keys that you kept", exact=True).click()
    await looking.page.get_by_label("The log's keys").fill("what somebody pasted")
    assert (await looking.verify()).startswith("NOT verified: the file of keys has none")
    assert [name for name, state in (await looking.steps()).items() if state == "wrong"] == ["signed"]


async def test_what_the_broker_does_not_answer_verifies_nothing(looking: Looking) -> None:
    await looking.open()
    await looking.page.route("**/v1/audit/receipts/*", lambda route: route.abort())
    assert await looking.verify() == "Nothing was verified: the broker can't be reached."
    await looking.page.unroute("**/v1/audit/receipts/*")
    await looking.page.route(
        "**/v1/audit/log/checkpoint", lambda route: route.fulfill(status=404, json={"detail": "Gone."})
    )
    said = await looking.verify()
    assert said.startswith("Verified: event")
    assert said.endswith("It was not compared with what this browser saw before: Gone.")


NO_ED25519 = """
    const importKey = SubtleCrypto.prototype.importKey;
    SubtleCrypto.prototype.importKey = function (format, key, algorithm, ...more) {
        if (algorithm === "Ed25519") return Promise.reject(new DOMException("unknown", "NotSupportedError"));
        return importKey.call(this, format, key, algorithm, ...more);
    };
"""


async def test_a_browser_that_can_not_check_signatures_says_so_and_claims_nothing(looking: Looking) -> None:
    await looking.page.add_init_script(NO_ED25519)
    await looking.open()
    said = await looking.verify()
    assert said.startswith("Nothing was verified in this browser: it can't check Ed25519 signatures.")
    assert "proved" not in {(await looking.steps())[name] for name in ("included", "signed", "cosigned", "grown")}
    assert await looking.memory() == "None"


async def test_without_a_script_the_page_is_whole(browser: Browser, place: tuple[World, str, str]) -> None:
    async with sitting(browser, place, java_script_enabled=False) as looking:
        await looking.page.goto(f"{looking.url}/console/audit/{looking.event}")
        await expect(looking.page.locator("#verify")).to_be_hidden()
        said = await looking.page.inner_text("main")
        assert "broker audit verify receipt event.tlog-proof --key keys" in said
        assert "not checked" not in said
        await expect(looking.page.get_by_role("link", name="Download the receipt")).to_be_visible()


@pytest.mark.parametrize("name", ["verify.js", "event.js"])
async def test_a_script_that_is_not_the_one_that_the_page_names_does_not_run(looking: Looking, name: str) -> None:
    await looking.altering(f"**/{name}", lambda text: text + "\ndocument.title = 'ran';\n")
    await looking.page.goto(f"{looking.url}/console/audit/{looking.event}")
    await looking.page.wait_for_load_state()
    assert await looking.page.title() != "ran"
    await expect(looking.page.locator("#verify")).to_be_hidden()
    assert any("integrity" in text for text in looking.complaints)


async def test_the_page_lets_nothing_run_but_its_two_files(looking: Looking) -> None:
    await looking.open()
    ran = await looking.page.evaluate(
        """async () => {
            const tried = async (work) => { try { await work(); return true; } catch { return false; } };
            return [
                await tried(async () => { const said = document.createElement("p"); said.innerHTML = "<b>x</b>"; }),
                await tried(() => import("/static/login.js")),
                await tried(() => new Function("return 1")()),
                await tried(() => trustedTypes.createPolicy("x", {})),
                await tried(() => fetch("http://localhost:1/")),
            ];
        }"""
    )
    assert ran == [False] * 5


async def test_the_files_are_served_as_they_stand_in_the_sources_by_their_own_address(
    place: tuple[World, str, str],
) -> None:
    world, _, event = place
    page = (await world.http.get(f"/console/audit/{event}", headers=world.admin)).text
    for script in scripts():
        answer = await world.http.get(script.path)
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "immutable" in answer.headers["cache-control"]
        assert f"sha256-{base64.b64encode(hashlib.sha256(answer.content).digest()).decode()}" == script.integrity
        assert f'src="{script.path}" integrity="{script.integrity}"' in page
        other = script.path.replace("/static/", "/static/0")
        assert (await world.http.get(other)).status_code == 404
    source = Path("broker/client/verify.js").read_bytes()
    assert hashlib.sha256(source).hexdigest() in page
