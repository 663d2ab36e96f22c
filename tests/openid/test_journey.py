"""A person signs in by a real OpenID provider, is looked at again, and signs out there.

It needs Node, and oidc-provider beside this file: `make browser` installs it where it can.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

from broker.sandbox.serve import running as serving
from tests.support.signing_in import sign_in_file
from tests.support.waiting import eventually
from tests.support.world import World, WorldClock, running_world, settings_for, upstream

_HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (_HERE / "node_modules").is_dir(),
    reason="No oidc-provider here (`cd tests/openid && npm ci`): SIGN-IN BY A REAL PROVIDER IS NOT TESTED.",
)
_FORM = re.compile(r'<form[^>]* action="([^"]+)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


class Member:
    """Somebody at a browser, who fills in the provider's forms."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self.http = httpx2.AsyncClient(base_url=url, timeout=30)

    async def __aenter__(self) -> Member:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def follow(self, path: str, answers: dict[str, str]) -> httpx2.Response:
        """Go to ``path``, wherever it leads, and fill in what is asked there, until a page of the broker comes."""
        answer, at = await self.http.get(path), urljoin(self._url, path)
        for _ in range(20):
            if answer.is_redirect:
                at = urljoin(at, answer.headers["Location"])
                if at.startswith(self._url) and "/login/callback" not in at:
                    return answer
                answer = await self.http.get(at)
            elif (form := _FORM.search(answer.text)) and not at.startswith(self._url):
                at = urljoin(at, unescape(form[1]))
                given = {name: unescape(value) for name, value in _HIDDEN.findall(answer.text)}
                answer = await self.http.post(at, data={**given, **answers})
            else:
                return answer
        raise AssertionError(answer.text)

    async def sign_in(self, **more: str) -> httpx2.Response:
        """Press the provider's button, and sign in there."""
        query = "&".join(f"{name}={value}" for name, value in more.items())
        return await self.follow(f"/login/oidc/real?{query}", {"login": self._name, "password": "of a test"})

    async def status(self) -> int:
        """Whether the broker knows them."""
        return (await self.http.get("/v1/operators/me")).status_code

    async def is_out(self) -> bool:
        """Whether they are signed out."""
        return await self.status() == 401


@asynccontextmanager
async def provider(broker: str) -> AsyncIterator[str]:
    """The issuer of a provider whose one client is this broker."""
    node = await asyncio.create_subprocess_exec("node", _HERE / "server.mjs", broker, stdout=asyncio.subprocess.PIPE)
    assert node.stdout is not None
    try:
        async with asyncio.timeout(30):
            issuer = (await node.stdout.readline()).decode().strip()
        yield issuer
    finally:
        node.kill()
        await node.wait()


@pytest.fixture
async def both(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[World, str, str]]:
    """A broker that is served, its address, and the provider's."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        public = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with provider(public) as issuer, upstream() as (state, url):
            more = {"id": '"real"', "parameters": '{prompt = "consent"}'}
            declared = sign_in_file(tmp_path, issuer, **more)
            settings = settings_for(tmp_path, database_url, url, public_url=public, sign_in_file=declared)
            async with (
                running_world(settings, state, url, clock=WorldClock()) as world,
                serving(world.edge, bound=bound),
            ):
                world.people.stay = False
                yield world, public, issuer


async def test_a_person_signs_in_by_a_real_provider_and_out_again(both: tuple[World, str, str]) -> None:
    _world, public, _issuer = both
    # given somebody whose group has a role
    async with Member(public, "olga") as olga:
        await _in_and_out(olga, public)


async def _in_and_out(olga: Member, public: str) -> None:
    answer = await olga.sign_in(to="/console")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console")
    me = (await olga.http.get("/v1/operators/me")).json()
    assert (me["name"], me["roles"]) == ("olga", ["operator"])
    # when they prove again that it is they
    assert (await olga.sign_in(again="1")).status_code == 303
    assert await olga.status() == 200
    # then signing out at the provider signs them out here
    page = await olga.http.get("/login/left/real")
    where = re.search(r'href="(http[^"]+session/end[^"]+)"', page.text)
    assert where is not None
    left = await olga.follow(unescape(where[1]), {"logout": "yes"})
    assert left.headers["Location"].startswith(f"{public}/login")
    await eventually(olga.is_out)


async def test_a_group_that_a_real_provider_takes_away_is_gone_here(both: tuple[World, str, str]) -> None:
    world, public, issuer = both
    async with Member(public, "olga") as olga, Member(public, "mallory") as mallory:
        assert (await olga.sign_in()).status_code == 303
        assert (await mallory.sign_in()).status_code == 403
        for _ in range(10):
            await world.work(seconds=60)
        assert await olga.status() == 200
        async with httpx2.AsyncClient() as whoever_runs_it:
            await whoever_runs_it.get(f"{issuer}/control/olga/")
        for _ in range(10):
            await world.work(seconds=60)
        assert await olga.is_out()
