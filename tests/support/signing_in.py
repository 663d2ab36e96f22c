"""A broker whose people sign in by a provider in this process, and browsers that do so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from tests.support.issuer import CLIENT, SECRET, FakeIssuer, fake_issuer
from tests.support.world import PUBLIC_URL, World, WorldClock, running_world, settings_for, upstream

ADMINS, OPERATORS, ACME = "group-of-admins", "group-of-operators", "group-for-acme"


def sign_in_file(directory: Path, where: str, **more: Any) -> Path:
    """A file with one provider, whose groups give roles.

    ``more`` are TOML values of other fields, None for none.
    """
    secret = directory / "client.secret"
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text(SECRET)
    given = {
        "id": '"entra"',
        "title": '"Gridwise"',
        "issuer": f'"{where}"',
        "client_id": f'"{CLIENT}"',
        "client_secret_file": '"client.secret"',
        "roles_claim": '"groups"',
        "private": "true",
        **more,
    }
    roles = (
        f'[[provider.role]]\nvalue = "{ADMINS}"\nroles = ["admin"]\n'
        f'[[provider.role]]\nvalue = "{OPERATORS}"\nroles = ["operator"]\n'
        f'[[provider.role]]\nvalue = "{ACME}"\nroles = ["operator"]\norganizations = ["acme"]\n'
    )
    file = directory / "sign-in.toml"
    fields = "\n".join(f"{name} = {value}" for name, value in given.items() if value is not None)
    file.write_text(f"[[provider]]\n{fields}\n{roles}")
    return file


@dataclass
class Browser:
    """Somebody's browser, with cookies of its own."""

    world: World
    http: httpx2.AsyncClient
    sent: dict[str, str] = field(default_factory=dict)

    async def leave(self, **asked: str) -> dict[str, str]:
        """Press the provider's button; the parameters of the authorization URL."""
        answer = await self.http.get("/login/oidc/entra", params=asked)
        assert answer.status_code == 303, answer.text
        self.sent = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
        return self.sent

    async def come_back(self, **returned: str) -> httpx2.Response:
        """What the provider's redirect gets here."""
        return await self.http.get("/login/callback", params={"state": self.sent["state"], **returned})

    async def sign_in(self, provider: FakeIssuer, **claims: Any) -> httpx2.Response:
        """Go there, sign in, and come back."""
        return await self.come_back(code=provider.give_code(await self.leave(), **claims))

    async def again(self, provider: FakeIssuer, **claims: Any) -> httpx2.Response:
        """Prove again that it is the same person."""
        return await self.come_back(code=provider.give_code(await self.leave(again="1"), **claims))

    async def me(self, status: int = 200) -> dict[str, Any]:
        """The account that is signed in here."""
        answer = await self.http.get("/v1/operators/me")
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found


@dataclass
class SigningIn:
    """The broker, the provider, and as many browsers as people want."""

    world: World
    provider: FakeIssuer

    def browser(self) -> Browser:
        """A browser that was never here."""
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.world.edge), base_url=PUBLIC_URL)
        return Browser(self.world, http)

    async def refused(self, answer: httpx2.Response, reason: str, texts: Mapping[str, str]) -> None:
        """Nobody was signed in, for this reason."""
        assert answer.status_code == 403, answer.text
        assert texts[reason].split("`")[0].split("'")[0] in answer.text
        assert "keybroker=" not in answer.headers.get("Set-Cookie", "")


@asynccontextmanager
async def signing_in(
    directory: Path, database_url: str, file: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[SigningIn]:
    """A running broker with one provider."""
    clock = WorldClock()
    async with fake_issuer(clock) as provider, upstream() as (state, url):
        declared = sign_in_file(directory, provider.url, **(file or {}))
        given = settings_for(directory, database_url, url, sign_in_file=declared, **settings)
        async with running_world(given, state, url, clock=clock) as world:
            world.people.stay = False
            yield SigningIn(world, provider)
