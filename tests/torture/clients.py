"""The clients: jobs that lease and use, operators who cut and give back, customers who send new keys."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest import mock

import httpx2

from broker.client.identity import Identity, generate, public
from broker.formats import base64url, intake_seal, link_proof, link_secret
from broker.formats.assertion import ASSERTION_TYPE
from tests.torture.cluster import Cluster
from tests.torture.history import Op, Outcome

SLUGS = ("acme", "globex", "initech")
JOBS = 3
_PROVIDER = "raptor-comply"
# What operators cut off, in turn.
_TURNS = ("grant", "grant", "workload", "grant", "credential", "grant", "organization")


@dataclass
class Customer:
    """An organization and the credential that jobs use of it."""

    slug: str
    id: str
    label: str
    credential: str


class Jobs:
    """Registered workloads, their present tokens and grants."""

    def __init__(self, parts: Cluster) -> None:
        self.parts = parts
        self.identities: list[Identity] = []
        self.customers: list[Customer] = []
        self.tokens: dict[str, str] = {}
        self.grants: dict[tuple[str, str], str] = {}

    async def prepare(self) -> None:
        """Organizations with a key each, and jobs that may use all of them."""
        for slug in SLUGS:
            await self.add_customer(slug)
        for _ in range(JOBS):
            await self.add_job()

    async def add_customer(self, slug: str) -> None:
        """An organization, here and upstream, with a key."""
        self.parts.state.add_organization(slug)
        made = await self._make("organization", "/v1/organizations", {"slug": slug, "name": slug})
        customer = Customer(slug, made["id"], "default", "")
        await self.add_credential(customer, "default")
        self.customers.append(customer)
        for identity in self.identities:
            await self.give(identity.client_id, slug)

    async def add_credential(self, customer: Customer, label: str) -> None:
        """Another credential, which jobs use from now on."""
        wanted = {"organization": customer.slug, "provider": _PROVIDER, "label": label}
        wanted["key"] = self.parts.new_key(customer.slug)
        # A paste is more than one transaction: where its answer was lost, the repeat is refused for what is there.
        await self.parts.persist("POST", "/v1/credentials", json=wanted)
        listed = await self.parts.persist("GET", "/v1/credentials", params={"organization": customer.slug})
        (made,) = [one["id"] for one in listed["items"] if one["label"] == label]
        customer.label, customer.credential = label, made

    async def add_job(self) -> None:
        """A workload that may use every customer's key."""
        private = generate("EdDSA")
        name = f"job-{len(self.parts.history.ops)}"
        made = await self._make("workload", "/v1/workloads", {"name": name, "jwks": public(private)})
        for customer in self.customers:
            await self.give(made["id"], customer.slug)
        self.identities.append(Identity("http://127.0.0.1:8080", made["id"], private))

    async def give(self, workload: str, slug: str) -> None:
        """Grant a job the use of a customer's keys, and seeing them."""
        wanted = {"workload": workload, "organizations": [slug], "provider": _PROVIDER, "modes": ["use", "reveal"]}
        made = await self._make("grant", "/v1/grants", wanted)
        self.grants[workload, slug] = made["id"]

    async def _make(self, what: str, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Something new, made once however often it has to be asked for; on the record once it is answered."""
        op = self.parts.history.begin("made", time.monotonic())
        headers = {"Idempotency-Key": f"made-{len(self.parts.history.ops)}"}
        answer = await self.parts.persist("POST", path, json=wanted, headers=headers)
        assert answer["status"] == 201, answer
        made: dict[str, Any] = answer["items"][0] if "items" in answer else answer
        op.ended, op.outcome = time.monotonic(), "ok"
        op.facts |= {"event": f"{what}.created", "subject": {what: made["id"]}}
        return made

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
        answer = await asked(self.parts, op, "POST", "/oauth/token", good=200, data=form)
        return str(answer["access_token"]) if op.outcome == "ok" else None


async def asked(parts: Cluster, op: Op, method: str, path: str, *, good: int, **options: Any) -> dict[str, Any]:
    """The answer of some replica to a request, noted; empty where none came."""
    op.facts["replica"] = at = parts.some()
    try:
        answer = await parts.clients[at].request(method, path, **options)
    except httpx2.HTTPError:
        op.ended = time.monotonic()
        return {}
    op.ended = time.monotonic()
    outcome: Outcome = "ok" if answer.status_code == good else "refused"
    op.outcome = "unknown" if answer.status_code >= 500 else outcome
    return dict(answer.json())


async def works(jobs: Jobs) -> None:
    """One thread of a job: lease, use, now and then end it or see the key, and try again."""
    parts = jobs.parts
    while not parts.over.is_set():
        identity = parts.random.choice(jobs.identities)
        customer = parts.random.choice(jobs.customers)
        token = jobs.tokens.get(identity.client_id)
        if token is None or parts.random.random() < 0.02:
            token = await jobs.token(identity)
            if token is None:
                await asyncio.sleep(0.1)
                continue
            jobs.tokens[identity.client_id] = token
        if parts.random.random() < 0.15:
            await _sees(jobs, customer, token)
            continue
        lease = await _lease(jobs, customer, token)
        if lease is None:
            await asyncio.sleep(0.05)
            continue
        for _ in range(parts.random.randint(1, 6)):
            await _use(jobs, lease)
            await asyncio.sleep(parts.random.random() * 0.1)
        left = lease["ends"] - time.monotonic()
        if parts.random.random() < 0.4:
            await cut(jobs, lease["id"], f"/v1/leases/{lease['id']}/revoke", "lease.revoked", lease=lease["id"])
            await asyncio.gather(*(_use(jobs, lease) for _ in range(3)))
        elif left < 4:
            await asyncio.sleep(max(0.0, left))
            await _use(jobs, lease)


async def _lease(
    jobs: Jobs, customer: Customer, token: str, *, kind: str = "lease", key: str = ""
) -> dict[str, Any] | None:
    parts = jobs.parts
    op = parts.history.begin(kind, time.monotonic())
    body: dict[str, Any] = {"organization": customer.slug, "provider": _PROVIDER, "label": customer.label}
    body |= {"mode": "reveal", "ttl": 60} if kind == "reveal" else {"ttl": parts.random.randint(2, 20)}
    headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
    made = await asked(parts, op, "POST", "/v1/leases", good=201, json=body, headers=headers)
    if op.outcome != "ok":
        return None
    view = made["lease"]
    left = datetime.fromisoformat(view["expires_at"]).timestamp() - time.time()
    ends = time.monotonic() + left + 0.001  # times are told in milliseconds
    version = f"{view['credential']}/{view['version']}"
    relies_on = [view["id"], view["workload"], view["grant"], version, view["credential"], view["organization"]]
    op.facts |= {"lease": view["id"], "ends": ends, "relies_on": relies_on}
    op.facts |= {"event": "lease.issued", "subject": {"lease": view["id"]}}
    return {
        "id": view["id"],
        "token": made["token"],
        "slug": customer.slug,
        "organization": view["organization"],
        "ends": ends,
        "relies_on": relies_on,
    }


async def _sees(jobs: Jobs, customer: Customer, token: str) -> None:
    """A job that wants the key itself, twice as one request; often its lease is cut between."""
    key = f"seen-{len(jobs.parts.history.ops)}"
    seen = await _lease(jobs, customer, token, kind="reveal", key=key)
    if seen is not None and jobs.parts.random.random() < 0.5:
        await cut(jobs, seen["id"], f"/v1/leases/{seen['id']}/revoke", "lease.revoked", lease=seen["id"])
    await _lease(jobs, customer, token, kind="reveal", key=key)


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
    await asked(parts, op, "GET", path, good=200, headers={"Authorization": f"Bearer {lease['token']}"})


async def cut(jobs: Jobs, what: str, path: str, event: str, **subject: Any) -> None:
    """An operator cuts something off; again, until it is answered, so that it is cut whatever became of the first."""
    parts = jobs.parts
    body = {"reason": "torture"}
    for _ in range(200):
        op = parts.history.begin("cut", time.monotonic(), cut=what, event=event, subject=subject)
        answer = await asked(parts, op, "POST", path, good=200, json=body, headers=parts.admin)
        op.facts["state"] = answer.get("state", "")
        if op.outcome != "unknown":
            return
        await asyncio.sleep(0.1)


async def operates(jobs: Jobs) -> None:
    """Cut something off, leave it so for a while, and put something new in its place."""
    parts = jobs.parts
    for turn in itertools.cycle(_TURNS):
        if parts.over.is_set():
            return
        customer = parts.random.choice(jobs.customers)
        identity = parts.random.choice(jobs.identities)
        if turn == "grant":
            grant = jobs.grants[identity.client_id, customer.slug]
            await cut(jobs, grant, f"/v1/grants/{grant}/revoke", "grant.revoked", grant=grant)
            await asyncio.sleep(parts.random.random())
            await jobs.give(identity.client_id, customer.slug)
        elif turn == "workload":
            workload = identity.client_id
            await cut(jobs, workload, f"/v1/workloads/{workload}/revoke", "workload.revoked", workload=workload)
            await asyncio.sleep(parts.random.random())
            jobs.identities.remove(identity)
            await jobs.add_job()
        elif turn == "credential":
            what = customer.credential
            await cut(jobs, what, f"/v1/credentials/{what}/revoke", "credential.revoked", credential=what)
            await asyncio.sleep(parts.random.random())
            await jobs.add_credential(customer, f"label-{len(parts.history.ops)}")
        else:
            what = customer.id
            path = f"/v1/organizations/{what}/revoke"
            await cut(jobs, what, path, "organization.revoked", organization=what)
            await asyncio.sleep(parts.random.random())
            jobs.customers.remove(customer)
            await jobs.add_customer(f"org-{len(parts.history.ops)}")
        await asyncio.sleep(parts.random.random())


async def rotates(jobs: Jobs) -> None:
    """A customer sends a new key, twice at once over one link; then the old one is cut off."""
    parts = jobs.parts
    while not parts.over.is_set():
        customer = parts.random.choice(jobs.customers)
        credential = customer.credential
        made = await parts.persist("POST", f"/v1/credentials/{credential}/rotate", json={"contact": "a@acme.example"})
        if made["status"] != 201:
            await asyncio.sleep(0.5)
            continue
        intake, secret = made["rotation"]["intake"], made["link"].partition("#")[2]
        keys = [parts.new_key(customer.slug) for _ in range(2)]
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
            what = f"{credential}/{old}"
            await cut(jobs, what, path, "credential.version.revoked", credential=credential, version=old)
        await asyncio.sleep(parts.random.random())


async def _submit(jobs: Jobs, intake: str, secret: str, key: str) -> None:
    parts = jobs.parts
    opened = await parts.persist("POST", f"/intake/{intake}/open", **await _proved(parts, intake, secret, "open", {}))
    if opened.get("state") != "open":
        return
    seal = opened["seal"]
    submission = intake_seal.Submission(key.encode(), link_proof.key_of(link_secret.new()))
    message = intake_seal.seal(
        submission, base64url.decode(seal["public_key"]), intake_seal.SealContext(**seal["context"])
    )
    said = {"sealed": base64url.encode(message)}
    proved = await _proved(parts, intake, secret, "submit", said)
    told = {"event": "intake.submitted", "subject": {"intake": intake}}
    op = parts.history.begin("submit", time.monotonic(), intake=intake, **told)
    await asked(parts, op, "POST", f"/intake/{intake}/submit", good=200, **proved)


async def _proved(parts: Cluster, intake: str, secret: str, step: str, said: dict[str, Any]) -> dict[str, Any]:
    """Body and headers of a call that proves that it knows the link."""
    nonce, body = (await parts.persist("POST", f"/intake/{intake}/challenge"))["nonce"], json.dumps(said).encode()
    proof = link_proof.header(link_proof.key_of(secret), nonce, f"/intake/{intake}/{step}", body)
    return {"content": body, "headers": {"Content-Type": "application/json", **proof}}


async def lives_in_another_time(jobs: Jobs) -> None:
    """A job whose clock jumps about."""
    parts = jobs.parts
    while not parts.over.is_set():
        await jobs.token(parts.random.choice(jobs.identities), parts.random.choice((-86_400, -3600, 3600, 86_400, 0)))
        await asyncio.sleep(0.5)
