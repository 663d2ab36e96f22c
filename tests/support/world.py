"""A running broker with a sandbox upstream, and the people and jobs around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

import httpx2
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from broker import app as composition
from broker.audit.timekeeping import Clocks, database_now
from broker.base.clock import Millis, later, now_ms, steady_ms
from broker.base.db import EVERY_TENANT
from broker.base.parent import Parent
from broker.cli.sandbox_folder import sandbox_provider
from broker.client.identity import Identity, generate, public
from broker.config import Settings
from broker.formats import base64url, intake_seal, link_proof, link_secret
from broker.formats.assertion import ASSERTION_TYPE
from broker.formats.ids import CredentialId, IntakeId, WorkloadId
from broker.identity.sessions import ABSOLUTE_MS
from broker.identity.tables import SessionRow
from broker.keystore.local import MasterKeys
from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running as serving
from broker.sandbox.state import State
from broker.serving import asgi
from broker.web.middleware import Edge
from broker.web.services import Services

PUBLIC_URL = "http://127.0.0.1:8080"


class WorldClock:
    """The present time, which a test may move.

    It moves for everybody, or only in what this system's clock shows.
    """

    def __init__(self) -> None:
        self.offset = self.wrong = self.database_wrong = 0

    def __call__(self) -> Millis:
        return later(now_ms(), self.offset)

    def forward(self, *, seconds: float = 0, hours: float = 0) -> None:
        """Let time pass."""
        self.offset += int((seconds + hours * 3600) * 1000)

    def jump(self, *, hours: float) -> None:
        """Set the system's clock on, or back."""
        self.wrong += int(hours * 3_600_000)

    def back(self, broker: composition.Broker, *, hours: float) -> None:
        """Set every clock back, so that a broker takes that time for right."""
        self.forward(hours=-hours)
        broker.services.parts.clock.set(self())

    def clocks(self) -> Clocks:
        """Where a broker's time comes from."""
        return Clocks(lambda: later(self(), self.wrong), lambda: steady_ms() + self.offset, self._database)

    async def _database(self, session: AsyncSession) -> Millis | None:
        shown = await database_now(session)
        return None if shown is None else later(shown, self.offset + self.database_wrong)


@dataclass
class World:
    """What a test works with.

    ``http`` speaks to the broker in process, over its whole ASGI stack.
    """

    broker: composition.Broker
    app: FastAPI
    edge: Edge
    http: httpx2.AsyncClient
    upstream: State
    upstream_url: str
    settings: Settings
    clock: WorldClock
    admin: dict[str, str] = field(default_factory=dict)
    people: People = field(default_factory=lambda: People())  # noqa: PLW0108 - it is declared below
    upstream_keys: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        return self.broker.services

    async def call(
        self, method: str, path: str, *, as_: dict[str, str] | None = None, status: int = 200, **options: Any
    ) -> Any:
        """One call as the admin (or ``as_``), whose status is as expected; its JSON."""
        headers = {**(self.admin if as_ is None else as_), **options.pop("headers", {})}
        response = await self.http.request(method, path, headers=headers, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response.json()

    async def items(self, path: str, **wanted: Any) -> list[dict[str, Any]]:
        """What a list of the API has, as the admin sees it."""
        found: list[dict[str, Any]] = (await self.call("GET", path, params=wanted))["items"]
        return found

    def behind_a_proxy(self) -> ASGIApp:
        """The broker as ``broker serve`` runs it, behind proxies of 10.0.0.0/8 that it trusts."""
        edge: Any = self.edge  # the server and the framework each spell an application's type their own way
        behind: Any = ProxyHeadersMiddleware(edge, "10.0.0.0/8")
        return cast("ASGIApp", behind)

    async def organization(self, slug: str, *, facilities: int = 3) -> dict[str, Any]:
        """A customer here and upstream; ``upstream_keys[slug]`` is a key of theirs."""
        named = {"slug": slug, "name": slug.title()}
        made: dict[str, Any] = await self.call("POST", "/v1/organizations", status=201, json=named)
        there = self.upstream.add_organization(slug, facilities)
        self.upstream_keys[slug] = self.upstream.add_key(there)[1]
        return made

    async def request_key(self, slug: str, **more: Any) -> tuple[IntakeId, str]:
        """An intake's id and the secret of its link."""
        wanted = {"organization": slug, "provider": "raptor-comply", "contact": f"admin@{slug}.example", **more}
        made = await self.call("POST", "/v1/intakes", status=201, json=wanted)
        return made["intake"]["id"], made["link"].partition("#")[2]

    async def prove(self, page: str, intake: str, text: str, step: str, body: bytes) -> dict[str, str]:
        """The headers of a call that proves that it knows a link's secret or a status code."""
        nonce = (await self.http.post(f"/{page}/{intake}/challenge")).json()["nonce"]
        proof = link_proof.header(link_proof.key_of(text), nonce, f"/{page}/{intake}/{step}", body)
        return {"Content-Type": "application/json", **proof}

    async def say(self, page: str, intake: str, text: str, step: str, **said: Any) -> httpx2.Response:
        """One call of a page with its proof."""
        body = json.dumps(said).encode()
        headers = await self.prove(page, intake, text, step, body)
        return await self.http.post(f"/{page}/{intake}/{step}", content=body, headers=headers)

    async def open(self, intake: str, secret: str) -> httpx2.Response:
        """The answer to what the page asks first."""
        return await self.say("intake", intake, secret, "open")

    async def submit(self, intake: str, secret: str, key: str, **more: Any) -> httpx2.Response:
        """Do what the page does: open, seal, submit.

        ``codes[intake]`` is the status code that it makes.
        """
        opened = await self.open(intake, secret)
        if opened.status_code != 200 or opened.json()["state"] != "open":
            return opened
        seal = opened.json()["seal"]
        self.codes[intake] = code = link_secret.new()
        submission = intake_seal.Submission(key.encode(), link_proof.key_of(code))
        message = intake_seal.seal(
            submission, base64url.decode(seal["public_key"]), intake_seal.SealContext(**seal["context"])
        )
        return await self.say("intake", intake, secret, "submit", sealed=base64url.encode(message), **more)

    def new_key(self, slug: str) -> str:
        """Another key of a customer, made upstream; the older ones stay valid."""
        there = next(one for one in self.upstream.organizations.values() if one.name == slug)
        return self.upstream.add_key(there)[1]

    def revoke_upstream(self, key: str) -> None:
        """What the customer does at the provider."""
        found = self.upstream.key_of(key)
        assert found is not None
        found.state = "revoked"

    async def rotate(self, credential: str, **more: Any) -> tuple[dict[str, Any], str, str]:
        """A rotation, its intake's id and the secret of its link."""
        wanted = {"contact": "admin@acme.example", **more}
        made = await self.call("POST", f"/v1/credentials/{credential}/rotate", status=201, json=wanted)
        return made["rotation"], made["rotation"]["intake"], made["link"].partition("#")[2]

    async def rotation(self, rotation: dict[str, Any]) -> dict[str, Any]:
        """The rotation as it is now."""
        now: dict[str, Any] = await self.call("GET", f"/v1/rotations/{rotation['id']}")
        return now

    async def versions(self, credential: str) -> list[dict[str, Any]]:
        """A credential's versions, oldest first."""
        found: list[dict[str, Any]] = (await self.call("GET", f"/v1/credentials/{credential}"))["versions"]
        return found

    async def states(self, credential: str) -> list[str]:
        """The states of a credential's versions, oldest first."""
        return [version["state"] for version in await self.versions(credential)]

    async def work(self, *, seconds: float = 0, hours: float = 0) -> None:
        """Let time pass, then let the worker work."""
        self.clock.forward(seconds=seconds, hours=hours)
        await self.people.sign_in_again(self)
        await self.broker.worker.once()

    async def noticed(self, lease: dict[str, Any], credential: str, version: int) -> None:
        """Let a job's calls meet the upstream's refusal of a key until the worker notices it."""
        async with asyncio.timeout(60):
            while (await self.versions(credential))[version - 1]["health"] != "failing":
                await self.proxied(lease, "/facilities")
                await self.work()

    async def key_for(self, slug: str, *, label: str = "default") -> CredentialId:
        """Have a customer whose key is active; the credential's id."""
        await self.organization(slug)
        wanted = {"organization": slug, "provider": "raptor-comply", "label": label, "key": self.upstream_keys[slug]}
        made = await self.call("POST", "/v1/credentials", status=201, json=wanted)
        assert made["verdict"] == "active"
        return CredentialId(made["credential"])

    async def job(self, name: str = "sync") -> Job:
        """A registered workload."""
        private = generate("EdDSA")
        made = await self.call("POST", "/v1/workloads", status=201, json={"name": name, "jwks": public(private)})
        return Job(self, Identity(self.settings.public_url, made["id"], private))

    async def grant(self, job: Job, *slugs: str, modes: tuple[str, ...] = ("use",), **more: Any) -> str:
        """A right of ``job``; the first grant's id."""
        wanted = {
            "workload": job.identity.client_id,
            "organizations": list(slugs),
            "provider": "raptor-comply",
            "modes": list(modes),
            **more,
        }
        made = await self.call("POST", "/v1/grants", status=201, json=wanted)
        return str(made["items"][0]["id"])

    async def operator(self, name: str, *roles: str, organizations: list[str] | None = None) -> dict[str, str]:
        """Another account's headers."""
        wanted = {"name": name, "roles": list(roles), "organizations": organizations}
        return await self.signed_in((await self.call("POST", "/v1/operators", status=201, json=wanted))["link"])

    async def signed_in(self, link: str) -> dict[str, str]:
        """The headers of whoever uses a one-time link on a command line."""
        begun = await self.call("POST", "/v1/sessions", as_={}, status=201, json={"secret": link.partition("#")[2]})
        return {"Authorization": f"Bearer {begun['token']}"}

    async def machine(self, name: str, *roles: str, **more: Any) -> dict[str, str]:
        """The headers of a program with a token."""
        wanted = {"name": name, "roles": list(roles), **more}
        made = await self.call("POST", "/v1/operator-tokens", status=201, json=wanted)
        return {"Authorization": f"Bearer {made['token']}"}

    async def events(self, **wanted: Any) -> list[dict[str, Any]]:
        """The record, oldest first."""
        return await self.items("/v1/audit/events", **{"limit": 500, **wanted})

    async def proxied(self, lease: dict[str, Any], path: str, method: str = "GET", **options: Any) -> httpx2.Response:
        """A call through the broker under a lease."""
        organization = options.pop("organization", lease["lease"]["organization"])
        headers = {"Authorization": f"Bearer {lease['token']}", **options.pop("headers", {})}
        url = f"/proxy/{organization}/raptor-comply{path}"
        return await self.http.request(method, url, headers=headers, **options)


class People:
    """They sign in again whenever a test lets time pass, unless it is about that.

    Their sessions go on with the tokens that they have.
    """

    def __init__(self) -> None:
        self.stay = True
        self._at: int = now_ms()

    async def ask(self, world: World, request: httpx2.Request) -> None:
        """Whoever sends this, they signed in a moment ago."""
        if "kbs_" in request.headers.get("Authorization", ""):
            await self.sign_in_again(world)

    async def sign_in_again(self, world: World) -> None:
        """As they do whenever some time has passed."""
        now = world.services.parts.clock()
        if not self.stay or abs(now - self._at) < 60_000:
            return
        self._at = now
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            for row in await session.scalars(select(SessionRow).where(SessionRow.ended_at.is_(None))):
                row.authenticated_at, row.seen_at, row.ends_at = now, now, later(now, ABSOLUTE_MS)


@dataclass
class Job:
    """A workload's side."""

    world: World
    identity: Identity
    _headers: dict[str, str] = field(default_factory=dict)
    _at: int = 0

    @property
    def id(self) -> WorkloadId:
        return WorkloadId(self.identity.client_id)

    def assertion(self) -> str:
        """An assertion that is dated by the world's time."""
        with mock.patch("time.time", return_value=self.world.clock() / 1000):
            return self.identity.assertion()

    async def token(self, **changes: Any) -> httpx2.Response:
        """One token request; ``changes`` replace form fields."""
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
            **changes,
        }
        return await self.world.http.post("/oauth/token", data=form)

    async def headers(self) -> dict[str, str]:
        """Authorization with an access token, kept for as long as the clock isn't moved."""
        if not self._headers or self._at != self.world.clock.offset:
            self._at = self.world.clock.offset
            answer = await self.token()
            assert answer.status_code == 200, answer.text
            self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return self._headers

    def forget(self) -> None:
        """Have no access token any more."""
        self._headers = {}

    async def ask(self, slug: str, **more: Any) -> httpx2.Response:
        """One lease request."""
        headers = {**await self.headers(), **more.pop("headers", {})}
        body = {"organization": slug, "provider": "raptor-comply", **more}
        return await self.world.http.post("/v1/leases", headers=headers, json=body)

    async def lease(self, slug: str, **more: Any) -> dict[str, Any]:
        """A lease that is issued."""
        answer = await self.ask(slug, **more)
        assert answer.status_code == 201, answer.text
        issued: dict[str, Any] = answer.json()
        return issued


@asynccontextmanager
async def upstream() -> AsyncIterator[tuple[State, str]]:
    """A sandbox upstream: its data and address."""
    state = State()
    async with serving(create_sandbox(secrets.token_urlsafe(16), state)) as url:
        yield state, url


def settings_for(directory: Path, database_url: str, upstream_url: str, **more: Any) -> Settings:
    """Settings of a test's broker; its master key file is made if there is none."""
    providers = directory / "providers"
    sandbox_provider(providers, upstream_url)
    key_file = directory / "master-keys.toml"
    if not key_file.exists():
        MasterKeys({}, "").with_new_key().write_file(key_file)
    given = {
        "state_dir": directory,
        "database_url": database_url,
        "master_key_file": key_file,
        "providers_dir": providers,
        "public_url": PUBLIC_URL,
        "vendor_name": "Gridwise Compliance",
        "vendor_contact": "keys@gridwise.example",
        "reveal_approval": "off",
        "http_refusals": 1_000_000,  # tests are refused more often than others, and needn't wait
        **more,
    }
    return Settings(**given)


@asynccontextmanager
async def running_world(
    settings: Settings,
    state: State,
    upstream_url: str,
    *,
    bootstrap: bool = True,
    clock: WorldClock | None = None,
    parent: Parent | None = None,
) -> AsyncIterator[World]:
    """A running broker; with ``bootstrap`` the world's ``admin`` can call it.

    ``parent`` writes for it if it is one of several on SQLite.
    """
    clock = clock or WorldClock()
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(composition.running(settings, clocks=clock.clocks(), parent=parent))
        app, edge = asgi(broker, with_worker=False)
        transport = httpx2.ASGITransport(app=edge)
        http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL, timeout=60))
        world = World(broker, app, edge, http, state, upstream_url, settings, clock)
        http.event_hooks = {"request": [partial(world.people.ask, world)]}
        if bootstrap:
            token = await composition.bootstrap_token(broker.services)
            made = await world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": "ada"})
            world.admin = {"Authorization": f"Bearer {made['token']}"}
        yield world
        await asyncio.sleep(0)
