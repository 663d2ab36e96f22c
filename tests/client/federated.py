"""A served broker that takes the tokens of a cluster and of a CI, and what stands on a job's side of both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.audit.events import BROKER
from broker.base.db import EVERY_TENANT
from broker.client.client import Client
from broker.formats.ids import TrustId
from broker.identity.federation import trusts
from broker.sandbox.serve import running
from broker.wire.server import Connection
from tests.client.platforms import TokenService, serving, told
from tests.support.issuer import fake_issuer
from tests.support.platform import ACTIONS, CLUSTER, Platform, declare
from tests.support.processes import free_port
from tests.support.world import WorldClock, running_world, settings_for, upstream

RAPTOR = "raptor-comply"


@dataclass
class Federated:
    """A job without a key at a broker that serves at ``url``: it may use acme's key.

    ``service`` is the one that the CI's runner asks for tokens, and ``file`` what the cluster projects.
    """

    platform: Platform
    url: str
    workload: str
    trusts: dict[str, TrustId]
    service: TokenService
    directory: Path
    clients: list[Client] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.directory / "token"

    @property
    def identity(self) -> Path:
        """The job's identity file, with the projected token as the source."""
        path = self.directory / "job.json"
        source = {"file": str(self.file)}
        path.write_text(json.dumps({"broker": self.url, "client_id": self.workload, "token": source}))
        return path

    def project(self) -> str:
        """Write another token of the pod's, in one step as kubelet does."""
        token = self.platform.pod_token(aud=[self.url])
        (self.directory / "token.new").write_text(token)
        (self.directory / "token.new").replace(self.file)
        return token

    @property
    def runner(self) -> dict[str, str]:
        """What the CI's runner sets."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.service.url}/github?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "the runner's",
            "BROKER_URL": self.url,
            "BROKER_WORKLOAD": self.workload,
        }

    async def revoke(self, trust: TrustId) -> None:
        """End a trust."""
        async with self.platform.world.services.parts.db.write(EVERY_TENANT) as session:
            await trusts.revoke(session, BROKER, trust, now=self.platform.now, reason="")

    async def tokens_issued(self) -> list[str]:
        """Of each access token, what names the platform's token that it was given for."""
        return [event["core"]["reason"] for event in await self.platform.world.events(kind="auth.token_issued")]


@asynccontextmanager
async def federated(directory: Path, database_url: str) -> AsyncIterator[Federated]:
    """Such a broker and its job, until the context closes."""
    clock, folder, port = WorldClock(), directory / "issuers", free_port()
    url = f"http://127.0.0.1:{port}"
    async with upstream() as (state, upstream_url), fake_issuer(clock) as cluster, fake_issuer(clock) as actions:
        declare(folder, CLUSTER, "kubernetes", cluster.url)
        declare(folder, ACTIONS, "github-actions", actions.url)
        settings = settings_for(directory, database_url, upstream_url, public_url=url, issuers_dir=folder)
        async with running_world(settings, state, upstream_url, clock=clock) as world:
            await world.key_for("acme")
            job = await world.job()
            await world.grant(job, "acme")
            there = Platform(world, cluster, actions)
            made = {issuer: await there.trust(job.id, issuer) for issuer in (CLUSTER, ACTIONS)}
            with serving() as service:
                service.gives("/github", lambda asked: told({"value": there.run_token(aud=asked.query["audience"])}))
                async with running(world.edge, protocol=Connection, port=port):
                    bench = Federated(there, url, job.id, made, service, directory)
                    yield bench
                    for client in bench.clients:
                        client.close()
