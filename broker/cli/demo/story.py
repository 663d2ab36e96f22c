"""The story in steps: each says what it shows, how long it took and whether it held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
from rich.console import Console
from rich.text import Text

from broker.base import closed
from broker.base.ending import until_told
from broker.cli.audit import COLUMNS as AUDIT_COLUMNS
from broker.cli.demo.stage import DemoStage, stage
from broker.cli.demo.what_next import CUSTOMER, commands
from broker.cli.output import listing
from broker.cli.trail import row as audit_row
from broker.client.client import Client
from broker.client.errors import CallFailed
from broker.client.identity import Identity, generate, public
from broker.client.leases import IssuedLease
from broker.client.submission import submit_key

_console = Console()
_CUSTOMERS = {"acme": "Acme Power", "globex": "Globex Energy", "initech": "Initech Grid"}


class StepFailed(Exception):
    """A step did not show what it should."""


def expect(truth: bool, what: str) -> None:
    """Check ``truth``; raises StepFailed with ``what``, which says what should be true."""
    if not truth:
        raise StepFailed(what)


async def play(*, port: int, stay: bool) -> bool:
    """Play the story; True if every step held.  ``stay`` then keeps serving until told to end.

    Raises:
        StageUnusable: there is no place for it.
    """
    async with stage(port) as scene:
        if port and not scene.broker.endswith(f":{port}"):
            _console.print(f"Port {port} can't be had; the demo's broker serves {scene.broker}.", soft_wrap=True)
        story = Story(scene)
        held = await story.run()
        if stay and held:
            await story.show_what_is_left()
            await until_told()
    return held


class Story:
    """One telling: later steps use what a step learnt."""

    def __init__(self, scene: DemoStage) -> None:
        self._scene = scene
        self._http = httpx2.AsyncClient(base_url=scene.broker, timeout=30)
        self._operator: dict[str, str] = {}
        self._way_in = ""
        self._links: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._upstream_ids: dict[str, str] = {}
        self._key_ids: dict[str, str] = {}
        self._rotation = ""
        self._job: Client | None = None
        self._lease: IssuedLease
        self._credential = ""

    async def run(self) -> bool:
        """Every step in order; stops at the first that fails."""
        steps: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
            ("An upstream is declared, not coded", self.provider),
            ("The first admin, by the one-time token", self.bootstrap),
            ("Two customers, two isolated tenants", self.organizations),
            ("Ask each for a key: a one-time link", self.request_keys),
            ("A link-preview robot fetches the page", self.preview_robot),
            ("The customer submits, sealed on their side", self.submit),
            ("A key of another organization is refused", self.wrong_key),
            ("A job registers its public key", self.workload),
            ("It gets a right to one customer's key", self.grant),
            ("The job proves itself and leases", self.lease),
            ("It uses the key without seeing it", self.use),
            ("The upstream's own example, base URL changed", self.own_example),
            ("The key may write, the grant may not", self.rules),
            ("Another tenant's data: refused", self.wrong_tenant),
            ("A path that reads two ways: refused", self.wrong_path),
            ("Seeing the key: not granted, refused", self.reveal),
            ("A new key takes over, nobody stops", self.rotate),
            ("The old key retires, and is watched until it is dead", self.confirm),
            ("The key was found in a repository: exposed", self.expose),
            ("The very next call is refused", self.use_after_exposure),
            ("Security revokes what is left", self.revoke),
            ("Everything is on the record", self.audit),
        )
        for number, (title, step) in enumerate(steps, 1):
            started = time.perf_counter()
            try:
                shown = await step()
            except (StepFailed, CallFailed, httpx2.HTTPError, AssertionError) as error:
                _console.print(Text(f"✗ {number:2} {title}: {error}", "red"))
                return False
            elapsed = (time.perf_counter() - started) * 1000
            _console.print(
                Text.assemble(
                    ("✓", "green"),
                    f" {number:2} ",
                    (title, "bold"),
                    (f" ({elapsed:.0f} ms)", "dim"),
                    f"\n      {shown}",
                ),
                soft_wrap=True,
            )
        return True

    async def _call(self, method: str, path: str, *, status: int = 200, **options: Any) -> dict[str, Any]:
        response = await self._http.request(method, path, headers=self._operator, **options)
        expect(
            response.status_code == status, f"{method} {path} answered {response.status_code}: {response.text[:200]}"
        )
        answer = response.json()
        assert isinstance(answer, dict)
        return answer

    async def _mint(self, slug: str) -> str:
        """A key, made by the customer's admin at the upstream."""
        minted = await self._scene.upstream_admin.post(f"/_admin/organizations/{self._upstream_ids[slug]}/keys")
        self._key_ids[str(minted.json()["key"])] = str(minted.json()["id"])
        return str(minted.json()["key"])

    async def provider(self) -> str:
        providers = await self._http.get("/v1/providers")
        expect(providers.status_code == 401, "without an operator even the list of providers is closed")
        return f"raptor-comply points at the bundled sandbox, {self._scene.upstream}; nobody gets in without a token."

    async def bootstrap(self) -> str:
        made = await self._call(
            "POST", "/v1/bootstrap", status=201, json={"token": self._scene.bootstrap, "name": "ada"}
        )
        again = await self._http.post("/v1/bootstrap", json={"token": self._scene.bootstrap, "name": "eve"})
        expect(again.status_code == 401, "the token works once")
        self._operator = {"Authorization": f"Bearer {made['token']}"}
        self._way_in = made["link"]
        closed.create(self._scene.token, f"{made['token']}\n".encode())
        return "ada is admin; the same token a second time is refused."

    async def organizations(self) -> str:
        for slug, name in _CUSTOMERS.items():
            await self._call("POST", "/v1/organizations", status=201, json={"slug": slug, "name": name})
            upstream = await self._scene.upstream_admin.post("/_admin/organizations", json={"name": name})
            self._upstream_ids[slug] = upstream.json()["id"]
            self._keys[slug] = await self._mint(slug)
        return "acme, globex and initech here; upstream, their admins made a key each (rc_live_…)."

    async def request_keys(self) -> str:
        for slug in ("acme", "globex", "initech"):
            wanted = {"organization": slug, "provider": "raptor-comply", "contact": f"admin@{slug}.example"}
            made = await self._call("POST", "/v1/intakes", status=201, json=wanted)
            self._links[slug] = made["link"]
        return f"{self._links['acme'].partition('#')[0]}#… (the secret part never reaches a server's log)"

    async def preview_robot(self) -> str:
        page = await self._http.get(self._links["acme"].partition("#")[0])
        expect(
            page.status_code == 200 and "acme" not in page.text.lower(), "the page says nothing to who lacks the secret"
        )
        return "It learns nothing and spends nothing."

    async def submit(self) -> str:
        receipts = [
            await asyncio.to_thread(submit_key, self._links[slug], self._keys[slug].encode())
            for slug in ("acme", "globex")
        ]
        for receipt in receipts:
            expect(receipt["state"] == "accepted", f"the sandbox verifies the key, the state is {receipt['state']}")
        first = receipts[0]["receipt"]
        whose = f"{first['organization']}, …{first['last4']}, fingerprint {first['fingerprint']}"
        return f"Verified upstream. Receipt: {whose}."

    async def wrong_key(self) -> str:
        try:
            await asyncio.to_thread(submit_key, self._links["initech"], self._keys["globex"].encode())
        except CallFailed as refusal:
            expect(refusal.code == "key_other_organization", f"refused as {refusal.code}")
            return "Globex's key, submitted for Initech, is recognised by its keyed fingerprint."
        raise StepFailed("it was accepted")

    async def workload(self) -> str:
        private = generate("EdDSA")
        made = await self._call(
            "POST", "/v1/workloads", status=201, json={"name": "nightly-sync", "jwks": public(private)}
        )
        identity = Identity(self._scene.broker, made["id"], private)
        identity.write(self._scene.identity)
        self._job = Client(identity)
        return f"nightly-sync is {made['id']}; its private key never left it."

    async def grant(self) -> str:
        wanted = {
            "workload": "nightly-sync",
            "organizations": ["acme"],
            "provider": "raptor-comply",
            "modes": ["use"],
            "presets": ["read-only"],
            "max_ttl": 900,
        }
        made = await self._call("POST", "/v1/grants", status=201, json=wanted)
        return f"{made['items'][0]['id']}: use, not reveal; read-only; 15 minutes at most; acme only."

    async def lease(self) -> str:
        assert self._job is not None
        self._lease = await asyncio.to_thread(self._job.lease, "acme", "raptor-comply", purpose="nightly sync")
        expect(self._lease.key is None, "the lease holds no key")
        self._credential = self._lease.credential
        return f"private_key_jwt → access token → {self._lease.id}, until {self._lease.answer['expires_at']}."

    async def _proxied(self, path: str, organization: str = "acme") -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self._lease.token}"}
        return await self._http.get(f"/proxy/{organization}/raptor-comply{path}", headers=headers)

    async def use(self) -> str:
        answer = await self._proxied("/facilities")
        expect(answer.status_code == 200, f"GET /facilities answered {answer.status_code}")
        names = ", ".join(facility["name"] for facility in answer.json())
        expect(self._keys["acme"] not in answer.text + str(answer.headers), "the key is nowhere in the answer")
        return f"GET /facilities → 200: {names}"

    async def own_example(self) -> str:
        answer = await self._http.get(f"{self._lease.proxy_url}/facilities", headers={"X-API-Key": self._lease.token})
        expect(answer.status_code == 200, f"GET /facilities answered {answer.status_code}")
        return "X-API-Key: kbl_… instead of rc_live_…; the broker puts the real one in."

    async def rules(self) -> str:
        headers = {"Authorization": f"Bearer {self._lease.token}"}
        answer = await self._http.post(
            "/proxy/acme/raptor-comply/cyber-assets", headers=headers, json={"name": "RTU 9"}
        )
        expect(answer.status_code == 403, f"the proxy answered {answer.status_code}")
        return f"POST /cyber-assets → {answer.json()['code']}: only {answer.json()['allowed'][0][:60]}…"

    async def wrong_tenant(self) -> str:
        elsewhere = await self._proxied("/facilities", "globex")
        expect(elsewhere.status_code == 403, f"the proxy answered {elsewhere.status_code}")
        assert self._job is not None
        try:
            await asyncio.to_thread(self._job.lease, "globex", "raptor-comply")
        except CallFailed as refusal:
            return f"acme's lease at globex: {elsewhere.json()['code']}; a lease for globex: {refusal.code}."
        raise StepFailed("a lease for globex was issued")

    async def wrong_path(self) -> str:
        answer = await self._proxied("/facilities/%2e%2e/admin")
        expect(answer.status_code == 422, f"the proxy answered {answer.status_code}")
        return f"/facilities/%2e%2e/admin: {answer.json()['code']}."

    async def reveal(self) -> str:
        assert self._job is not None
        try:
            await asyncio.to_thread(self._job.lease, "acme", "raptor-comply", mode="reveal")
        except CallFailed as refusal:
            return f"{refusal.code}: {refusal}"
        raise StepFailed("the key was revealed")

    async def rotate(self) -> str:
        made = await self._call("POST", f"/v1/credentials/{self._credential}/rotate", status=201, json={})
        self._rotation = made["rotation"]["id"]
        receipt = await asyncio.to_thread(submit_key, made["link"], (await self._mint("acme")).encode())
        expect(receipt["state"] == "accepted", "the new key shows the same organization's ids")
        expect((await self._proxied("/facilities")).status_code == 200, "the same lease goes on, with the new key")
        path = f"/v1/credentials/{self._credential}/versions/1/holders"
        held = (await self._call("GET", path))["items"][0]
        return f"Version 2 serves at once; version 1 is retiring: {held['name']} used it {held['uses']} times."

    async def confirm(self) -> str:
        await self._call("POST", f"/v1/rotations/{self._rotation}/promote")
        before = (await self._call("GET", f"/v1/credentials/{self._credential}"))["versions"][0]
        expect(before["status"] == "awaiting upstream revocation", f"it shows as {before['status']}")
        await self._scene.upstream_admin.delete(f"/_admin/keys/{self._key_ids[self._keys['acme']]}")
        _console.print("      the customer revoked it upstream; waiting for the broker's next probe …", style="dim")
        async with asyncio.timeout(90):
            while True:
                old = (await self._call("GET", f"/v1/credentials/{self._credential}"))["versions"][0]
                if old["revocation_confirmed_at"]:
                    return f"{old['status']}; `broker key certificate` proves it."
                await asyncio.sleep(0.5)

    async def expose(self) -> str:
        body = {"found_by": "a partner's scanner", "where": "a public repository, config.env"}
        done = await self._call("POST", f"/v1/credentials/{self._credential}/exposure", json=body)
        exposure = done["exposure"]
        timeline = await self._http.get(f"/v1/exposures/{exposure['id']}/timeline", headers=self._operator)
        count = len(timeline.text.splitlines())
        return f"{exposure['id']}: version 2 is cut off, a new one asked for; the timeline has {count} lines."

    async def use_after_exposure(self) -> str:
        answer = await self._proxied("/facilities")
        expect(answer.status_code in {403, 409}, f"the proxy answered {answer.status_code}")
        return f"GET /facilities → {answer.status_code} {answer.json()['code']}: {answer.json()['detail']}"

    async def revoke(self) -> str:
        credentials = (await self._call("GET", "/v1/credentials"))["items"]
        for credential in credentials:
            revoked = await self._call("POST", f"/v1/credentials/{credential['id']}/revoke", json={"reason": "goodbye"})
            expect(revoked["state"] == "revoked", "it is revoked")
        return f"{len(credentials)} credentials are cut off for good; in force when answered."

    async def audit(self) -> str:
        found = await self._call("GET", "/v1/audit/events", params={"limit": 500})
        events = found["items"]
        expect([event["index"] for event in events] == list(range(len(events))), "the index is dense")
        listing([audit_row(event) for event in events], AUDIT_COLUMNS, False, wide=True)
        return (
            f"{len(events)} events, indices 0 to {len(events) - 1} without a gap, each durable before what it allows."
        )

    async def show_what_is_left(self) -> None:
        """Print where things are, and a fresh link to open in a browser, for a reader who stays."""
        fresh = await self._call(
            "POST",
            "/v1/intakes",
            status=201,
            json={
                "organization": "acme",
                "provider": "raptor-comply",
                "label": "try-me",
                "contact": "admin@acme.example",
                "purpose": "Nightly synchronisation of cyber assets.",
            },
        )
        another_key = await self._mint("acme")
        _console.print(
            Text.assemble(
                (f"\nKeybroker serves {self._scene.broker}", "bold"),
                f" (API description: {self._scene.broker}/openapi.json)\n"
                f"Open the console, as ada:   {self._way_in}\n"
                f"Open the customer's page:   {fresh['link']}\n"
                f"with a key of the sandbox:  {another_key}\n\n"
                "Or go on in another shell, where these lines run as they are:\n\n",
                "".join(f"    {line}\n" for line in commands(self._scene, _CUSTOMERS[CUSTOMER])),
                "\nCtrl-C ends it.",
            ),
            soft_wrap=True,
        )
