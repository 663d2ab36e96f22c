"""A platform that gives jobs tokens, and a broker that takes them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from broker.audit.events import BROKER
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.formats.assertion import ASSERTION_TYPE
from broker.formats.ids import Reference, TrustId
from broker.identity import workloads
from broker.identity.federation import trusts
from tests.support.issuer import FakeIssuer, fake_issuer
from tests.support.world import PUBLIC_URL, World, WorldClock, running_world, settings_for, upstream

CLUSTER = "prod-cluster"
ACTIONS = "ghes"
_POD = {"name": "nightly-7d", "uid": "900f80ed-0b1c-4d2e-8f30-1a2b3c4d5e6f"}
RULES: Mapping[str, Mapping[str, list[str]]] = {
    CLUSTER: {"namespace": ["sync"], "serviceaccount": ["nightly"]},
    ACTIONS: {"repository_id": ["456789"], "repository_owner_id": ["123456"], "environment": ["prod"]},
}


@dataclass(frozen=True)
class Platform:
    """A world whose broker takes the tokens of two local issuers.

    A cluster's are good until they are over, a CI's once.
    """

    world: World
    issuer: FakeIssuer
    actions: FakeIssuer

    def pod_token(self, **more: Any) -> str:
        """A pod's token; a claim that is None is left out."""
        now = self.issuer.second
        usual = {
            "iss": self.issuer.url,
            "aud": [PUBLIC_URL],
            "sub": "system:serviceaccount:sync:nightly",
            "iat": now,
            "nbf": now,
            "exp": now + 3_600,
            "jti": secrets.token_hex(8),
            "kubernetes.io": {"namespace": "sync", "serviceaccount": {"name": "nightly"}, "pod": _POD},
        }
        claims = {name: value for name, value in {**usual, **more}.items() if value is not None}
        return self.issuer.sign(claims)

    def run_token(self, **more: Any) -> str:
        """A CI run's token."""
        now = self.actions.second
        usual = {
            "iss": self.actions.url,
            "aud": PUBLIC_URL,
            "jti": secrets.token_hex(8),
            "iat": now,
            "exp": now + 300,
            "repository_id": "456789",
            "repository_owner_id": "123456",
            "environment": "prod",
            "event_name": "schedule",
            "run_id": "8812",
            "repository": "acme/sync",
        }
        return self.actions.sign({**usual, **more})

    async def trust(self, workload: str, issuer: str = CLUSTER, **more: Any) -> TrustId:
        """A trust that takes :meth:`pod_token`, or :meth:`run_token`."""
        wanted: dict[str, Any] = {"claims": RULES.get(issuer), "networks": [], "expires_at": None, "note": "", **more}
        async with self.world.services.parts.db.write(EVERY_TENANT) as session:
            declared = self.world.services.federation.issuers.get(issuer)
            assert declared is not None
            row = await workloads.find(session, Reference(workload))
            made = await trusts.create(session, BROKER, row, declared, now=self.now, **wanted)
            return made.id

    @property
    def now(self) -> Millis:
        """The present time."""
        return self.world.clock()

    async def exchange(self, workload: str, token: str, **more: str) -> httpx2.Response:
        """What the token endpoint answers to a platform's token."""
        return await self.world.http.post("/oauth/token", data=token_form(workload, token) | more)

    async def headers(self, workload: str, token: str = "") -> dict[str, str]:
        """What a request has that comes with an access token for a platform's token."""
        answer = await self.exchange(workload, token or self.pod_token())
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def token_form(workload: str, token: str) -> dict[str, str]:
    """What a job sends to the token endpoint with a platform's token."""
    return {
        "grant_type": "client_credentials",
        "client_id": workload,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": token,
    }


def declare(folder: Path, issuer: str, preset: str, url: str, more: str = "") -> None:
    """Write an issuer's file."""
    folder.mkdir(exist_ok=True)
    text = f'id = "{issuer}"\nversion = 1\npreset = "{preset}"\nissuer = "{url}"\n[keys]\nprivate = true\n{more}'
    (folder / f"{issuer}.toml").write_text(text)


@asynccontextmanager
async def platform(tmp_path: Path, database_url: str, **more: Any) -> AsyncIterator[Platform]:
    """Such a world, with these further settings, until the context closes."""
    clock, folder = WorldClock(), tmp_path / "issuers"
    async with upstream() as (state, url), fake_issuer(clock) as cluster, fake_issuer(clock) as actions:
        declare(folder, CLUSTER, "kubernetes", cluster.url)
        declare(folder, ACTIONS, "github-actions", actions.url)
        settings = settings_for(tmp_path, database_url, url, issuers_dir=folder, **more)
        async with running_world(settings, state, url, clock=clock) as world:
            yield Platform(world, cluster, actions)
