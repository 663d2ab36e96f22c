"""Every page answers for everybody who may see it, ships little, and is of the console's one make."""

from __future__ import annotations

import re

import pytest

from broker.web.console.page import CSP
from broker.web.console.scripts import policy, scripts
from tests.console.conftest import Reader
from tests.console.demo import Filled, pages
from tests.support.world import World


async def test_every_page_answers_with_no_script_but_an_events_and_no_style_inside_and_is_small(
    admin: Reader, filled: Filled
) -> None:
    for path in pages(filled):
        response = await filled.world.http.get(f"/console{path}", headers=admin.who)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text[:2000]}"
        verifies = path == f"/audit/{filled.event}"
        assert response.headers["content-security-policy"] == (policy() if verifies else CSP)
        assert response.headers["cache-control"] == "no-store"
        named = [f'<script type="module" src="{one.path}" integrity="{one.integrity}"></script>' for one in scripts()]
        assert re.findall("<script.*?</script>", response.text) == (named if verifies else [])
        page = re.sub("<script.*?</script>", "", response.text)
        assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|javascript:|https?://(?!127)", _ours(page)), path
        assert len(re.findall("<h1", page)) == 1, path
        sheet = re.findall(r'rel="stylesheet" href="([^"]+)"', page)
        styles = await filled.world.http.get(sheet[0])
        assert styles.headers["content-type"].startswith("text/css")
        loaded = len(response.content) + len(styles.content) + sum(len(one.content) for one in scripts() if verifies)
        assert loaded < 100_000, path


def _ours(page: str) -> str:
    """A page without what it shows of providers' addresses."""
    return re.sub(r"<td[^>]*>https?://[^<]*</td>", "", page)


async def test_every_link_of_a_page_leads_to_a_page(admin: Reader, filled: Filled) -> None:
    seen: set[str] = set()
    for path in pages(filled):
        page = await admin.get(path)
        seen |= {link.replace("&amp;", "&") for link in re.findall(r'href="(/console[^"]*)"', page)}
    for link in sorted(seen):
        if "static" not in link:
            await admin.get(link.removeprefix("/console"))


async def test_who_is_not_known_is_led_to_where_they_sign_in(world: World) -> None:
    stranger = await world.http.get("/console/keys")
    assert (stranger.status_code, stranger.headers["location"]) == (303, "/login?to=/console/keys")
    sent = await world.http.post("/console/organizations/new", data={"slug": "x", "name": "y"})
    assert sent.status_code == 401
    assert await world.items("/v1/organizations") == []


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/nothing", 404, "The console has no such page."),
        ("/keys/crd_nothing", 422, "credential_id: this is no id"),
        ("/keys?limit=5", 422, "limit: there is no such parameter here"),
        ("/organizations/nobody", 404, "There is no such organization for you"),
        ("/leases?cursor=eA==", 422, "cursor: is not one of this list"),
    ],
)
async def test_a_refusal_is_a_page_that_says_what_to_do(admin: Reader, path: str, status: int, says: str) -> None:
    page = await admin.get(path, status)
    assert says in page
    assert "Go to the overview" in page


async def test_a_page_shows_what_others_wrote_as_text_that_nobody_is_led_astray_by(admin: Reader, world: World) -> None:
    await world.call("POST", "/v1/organizations", status=201, json={"slug": "odd", "name": '<b>A</b> & "B"'})
    page = await admin.get("/organizations/odd")
    assert "<b>A</b>" not in page
    assert "&lt;b&gt;A&lt;/b&gt; &amp; &#34;B&#34;" in page


def test_the_policy_of_an_events_page_adds_its_files_by_their_hashes_and_calls_of_this_broker() -> None:
    added = policy().removeprefix(CSP)
    assert re.fullmatch(
        r"; script-src 'sha256-[A-Za-z0-9+/=]{44}' 'sha256-[A-Za-z0-9+/=]{44}'; connect-src 'self'", added
    )
    assert CSP.startswith("default-src 'none';")
    assert "script-src" not in CSP
