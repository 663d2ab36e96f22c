"""The clients: jobs that lease and use, operators who cut and give back, customers who send new keys."""

from __future__ import annotations

import asyncio
import base64
import time
from datetime import datetime
from typing import Any
from unittest import mock

import httpx2

from broker.client.identity import ASSERTION_TYPE, Identity, generate, public
from broker.formats import linksecret, sealed
from tests.torture.cluster import Cluster
from tests.torture.history import Op, Outcome

ORGANIZATIONS = ("acme", "globex", "initech")
JOBS = 3
_PROVIDER = "raptor-comply"


class Jobs:
    """Registered workloads, their present tokens and grants."""

    def __init__(self, parts: Cluster) -> None:
        self.parts = parts
        self.identities: list[Identity] = []
        self.tokens: dict[str, str] = {}
        self.grants: dict[tuple[str, str], str] = {}
        self.credentials: dict[str, str] = {}

    async def prepare(self) -> None:
        """Organizations with a key each, and jobs that may use all of them."""
        parts = self.parts
        for slug in ORGANIZATIONS:
            await parts.persist("POST", "/v1/organizations", json={"slug": slug, "name": slug})
            key = parts.state.add_key(parts.state.add_organization(slug))[1]
            wanted = {"organization": slug, "provider": _PROVIDER, "key": key}
            self.credentials[slug] = (await parts.persist("POST", "/v1/credentials", json=wanted))["credential"]
        for number in range(JOBS):
            private = generate("EdDSA")
            workload = {"name": f"job-{number}", "jwks": public(private)}
            made = await parts.persist("POST", "/v1/workloads", json=workload)
            self.identities.append(Identity("http://127.0.0.1:8080", made["id"], private))
            for slug in ORGANIZATIONS:
                await self.give(made["id"], slug)

    async def give(self, workload: str, slug: str) -> None:
        """Grant a job the use of a customer's key."""
        wanted = {"workload": workload, "organizations": [slug], "provider": _PROVIDER, "modes": ["use"]}
        made = await self.parts.persist("POST", "/v1/grants", json=wanted)
        self.grants[workload, slug] = made["items"][0]["id"]

    async def token(self, identity: Identity, offset: float = 0) -> str | None:
        """An access token; ``offset`` is how far the job's clock is off."""
        op = self.parts.history.begin("token", time.monotonic(), offset=offset)
        with mock.patch("broker.client.identity.time.time", return_value=time.time() + offset):
            assertion = identity.assertion()
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        answer = await asked(op, self.parts.any().post("/oauth/token", data=form), good=200)
        return str(answer.json()["access_token"]) if answer is not None and op.outcome == "ok" else None


async def asked(op: Op, request: Any, *, good: int) -> httpx2.Response | None:
    """The answer to a request, noted; None where none came."""
    try:
        answer: httpx2.Response = await request
    except httpx2.HTTPError:
        op.ended = time.monotonic()
        return None
    op.ended = time.monotonic()
    outcome: Outcome = "ok" if answer.status_code == good else "refused"
    op.outcome = "unknown" if answer.status_code >= 500 else outcome
    return answer


async def works(jobs: Jobs) -> None:
    """One thread of a job: lease, use, now and then end it and try again."""
    parts = jobs.parts
    while not parts.over.is_set():
        identity = parts.random.choice(jobs.identities)
        slug = parts.random.choice(ORGANIZATIONS)
        token = jobs.tokens.get(identity.client_id)
        if token is None or parts.random.random() < 0.02:
            token = await jobs.token(identity)
            if token is None:
                await asyncio.sleep(0.1)
                continue
            jobs.tokens[identity.client_id] = token
        lease = await _lease(jobs, slug, token)
        if lease is None:
            await asyncio.sleep(0.05)
            continue
        for _ in range(parts.random.randint(1, 6)):
            await _use(jobs, lease)
            await asyncio.sleep(parts.random.random() * 0.1)
        if parts.random.random() < 0.4:
            await cut(jobs, lease["id"], f"/v1/leases/{lease['id']}/revoke", "lease.revoked")
            await asyncio.gather(*(_use(jobs, lease) for _ in range(3)))
        elif parts.random.random() < 0.1:
            await asyncio.sleep(max(0.0, lease["ends"] - time.monotonic()))
            await _use(jobs, lease)


async def _lease(jobs: Jobs, slug: str, token: str) -> dict[str, Any] | None:
    parts = jobs.parts
    op = parts.history.begin("lease", time.monotonic())
    body = {"organization": slug, "provider": _PROVIDER, "ttl": parts.random.randint(2, 20)}
    headers = {"Authorization": f"Bearer {token}"}
    answer = await asked(op, parts.any().post("/v1/leases", json=body, headers=headers), good=201)
    if answer is None or op.outcome != "ok":
        return None
    made = answer.json()
    view = made["lease"]
    left = datetime.fromisoformat(view["expires_at"]).timestamp() - time.time()
    ends = time.monotonic() + left + 0.001  # times are told in milliseconds
    op.facts = {"lease": view["id"], "ends": ends}
    version = f"{view['credential']}/{view['version']}"
    return {
        "id": view["id"],
        "token": made["token"],
        "slug": slug,
        "organization": view["organization"],
        "ends": ends,
        "relies_on": [view["id"], view["workload"], view["grant"], version],
    }


async def _use(jobs: Jobs, lease: dict[str, Any]) -> None:
    parts = jobs.parts
    probe = parts.history.probe()
    op = parts.history.begin(
        "use",
        time.monotonic(),
        probe=probe,
        lease=lease["id"],
        organization=lease["slug"],
        relies_on=lease["relies_on"],
    )
    path = f"/proxy/{lease['organization']}/{_PROVIDER}/facilities?probe={probe}"
    await asked(op, parts.any().get(path, headers={"Authorization": f"Bearer {lease['token']}"}), good=200)


async def cut(jobs: Jobs, what: str, path: str, event: str) -> Op:
    """An operator cuts something off."""
    op = jobs.parts.history.begin("cut", time.monotonic(), cut=what, event=event)
    body = {"reason": "torture"}
    answer = await asked(op, jobs.parts.any().post(path, json=body, headers=jobs.parts.admin), good=200)
    if answer is not None and op.outcome == "ok":
        op.facts["state"] = answer.json().get("state", "")
    return op


async def operates(jobs: Jobs) -> None:
    """Take a job's right away, leave it so for a while, and give a new one."""
    parts = jobs.parts
    while not parts.over.is_set():
        (workload, slug), grant = parts.random.choice(list(jobs.grants.items()))
        await cut(jobs, grant, f"/v1/grants/{grant}/revoke", "grant.revoked")
        await asyncio.sleep(parts.random.random())
        # Whatever the first answer was: revoking again changes nothing.
        await parts.persist("POST", f"/v1/grants/{grant}/revoke", json={"reason": "torture"})
        # A lease goes on under the new grant: from here on its uses are lawful again.
        parts.history.begin("restore", time.monotonic(), cut=grant)
        await jobs.give(workload, slug)
        await asyncio.sleep(parts.random.random())


async def rotates(jobs: Jobs) -> None:
    """A customer sends a new key, twice at once over one link; then the old one is cut off."""
    parts = jobs.parts
    while not parts.over.is_set():
        slug = parts.random.choice(ORGANIZATIONS)
        credential = jobs.credentials[slug]
        made = await parts.persist("POST", f"/v1/credentials/{credential}/rotate", json={"contact": "a@acme.example"})
        if made["status"] != 201:
            await asyncio.sleep(0.5)
            continue
        intake, secret = made["rotation"]["intake"], made["link"].partition("#")[2]
        there = next(one for one in parts.state.organizations.values() if one.name == slug)
        keys = [parts.state.add_key(there)[1] for _ in range(2)]
        await asyncio.gather(*(_submit(jobs, intake, secret, key) for key in keys))
        old = made["rotation"]["from_version"]
        for _ in range(100):
            found = await parts.persist("GET", f"/v1/rotations/{made['rotation']['id']}")
            if found["state"] not in {"requested", "verifying"} or parts.over.is_set():
                break
            await asyncio.sleep(0.2)
        if found["state"] == "requested":
            await parts.persist("POST", f"/v1/rotations/{found['id']}/cancel", json={})
        elif found["state"] == "grace":
            path = f"/v1/credentials/{credential}/versions/{old}/revoke"
            await cut(jobs, f"{credential}/{old}", path, "credential.version.revoked")
            await parts.persist("POST", path, json={"reason": "torture"})
        await asyncio.sleep(parts.random.random())


async def _submit(jobs: Jobs, intake: str, secret: str, key: str) -> None:
    parts = jobs.parts
    proof = linksecret.proof(secret)
    try:
        opened = (await parts.any().post(f"/intake/{intake}/open", json={"proof": proof})).json()
    except httpx2.HTTPError:
        return
    if opened.get("state") != "open":
        return
    seal = opened["seal"]
    message = sealed.seal(key.encode(), _bytes(seal["public_key"]), sealed.SealContext(**seal["context"]))
    body = {"proof": proof, "sealed": base64.urlsafe_b64encode(message).rstrip(b"=").decode()}
    op = parts.history.begin("submit", time.monotonic(), intake=intake)
    await asked(op, parts.any().post(f"/intake/{intake}/submit", json=body), good=200)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def lives_in_another_time(jobs: Jobs) -> None:
    """A job whose clock jumps about."""
    parts = jobs.parts
    while not parts.over.is_set():
        await jobs.token(parts.random.choice(jobs.identities), parts.random.choice((-86_400, -3600, 3600, 86_400, 0)))
        await asyncio.sleep(0.5)
