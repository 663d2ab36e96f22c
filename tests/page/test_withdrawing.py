"""What can't be undone is asked once more, and no key that is pressed too often answers."""

from __future__ import annotations

from playwright.async_api import Locator

from tests.page.conftest import Visit
from tests.page.test_status import given, title_becomes


async def asked(visit: Visit) -> Locator:
    """The question before a withdrawal, by the keyboard."""
    await visit.page.focus("text=Withdraw the key")
    await visit.page.keyboard.press("Enter")
    question = visit.page.get_by_role("alertdialog")
    await question.wait_for()
    return question


async def focused(visit: Visit) -> str:
    return str(await visit.page.evaluate("document.activeElement.textContent"))


async def test_the_safe_answer_has_the_focus_and_the_colour(visit: Visit) -> None:
    link, _ = await given(visit)
    await visit.paste(*link)
    question = await asked(visit)
    named, described = [await question.get_attribute(f"aria-{by}") for by in ("labelledby", "describedby")]
    assert await visit.page.inner_text(f"#{named}") == "Withdraw the key for good?"
    assert "can’t be undone" in await visit.page.inner_text(f"#{described}")
    assert await focused(visit) == "Keep it"
    colour = "one => getComputedStyle(one).backgroundColor"
    keep, withdraw = [question.get_by_role("button", name=name) for name in ("Keep it", "Withdraw it for good")]
    assert await keep.evaluate(colour) == "rgb(11, 92, 173)"
    assert await withdraw.evaluate(colour) == "rgba(0, 0, 0, 0)"
    # what is behind the question can't be reached
    await visit.page.keyboard.press("Tab")
    assert await focused(visit) == "Withdraw it for good"


async def test_escape_closes_the_question_and_leads_back(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    question = await asked(visit)
    await visit.page.keyboard.press("Escape")
    await question.wait_for(state="detached")
    assert await focused(visit) == "Withdraw the key…"
    assert await visit.world.states(credential) == ["active"]


async def test_two_presses_of_enter_withdraw_nothing(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    question = await asked(visit)
    await visit.page.keyboard.press("Enter")
    await question.wait_for(state="detached")
    assert not any(request.url.endswith("/withdraw") for request in visit.requests)
    assert await visit.world.states(credential) == ["active"]


async def test_a_key_that_is_held_down_withdraws_nothing(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    await visit.page.evaluate(
        "window.repeats = 0; addEventListener('keydown', ({repeat}) => { window.repeats += repeat }, true)"
    )
    await visit.page.focus("text=Withdraw the key")
    for _ in range(30):
        await visit.page.keyboard.down("Enter")
    assert await visit.page.evaluate("window.repeats") == 29, "the browser says that the key is held"
    assert await focused(visit) == "Keep it", "the question stays, and is asked once"
    # not even where the focus comes to be on the other answer
    await visit.page.focus("text=Withdraw it for good")
    for _ in range(30):
        await visit.page.keyboard.down("Enter")
    await visit.page.keyboard.up("Enter")
    await visit.page.keyboard.press("Escape")
    await visit.page.get_by_role("alertdialog").wait_for(state="detached")
    assert not any(request.url.endswith("/withdraw") for request in visit.requests)
    assert await visit.world.states(credential) == ["active"]


async def test_the_second_half_of_a_double_click_withdraws_nothing(visit: Visit) -> None:
    link, credential = await given(visit)
    await visit.paste(*link)
    question = await asked(visit)
    box = await question.get_by_role("button", name="Withdraw it for good").bounding_box()
    assert box is not None
    await visit.page.keyboard.press("Escape")
    # what opens the question stands where the answer will be
    opener = visit.page.get_by_role("button", name="Withdraw the key")
    await opener.evaluate(
        "(one, {x, y}) => Object.assign(one.style, {position: 'fixed', left: `${x}px`, top: `${y}px`})", box
    )
    await visit.page.mouse.dblclick(box["x"] + 20, box["y"] + 20)
    await question.wait_for()
    assert not any(request.url.endswith("/withdraw") for request in visit.requests)
    await visit.page.get_by_role("button", name="Withdraw it for good").click()
    await title_becomes(visit, "The key is no longer used")
    assert await visit.world.states(credential) == ["revoked"]
