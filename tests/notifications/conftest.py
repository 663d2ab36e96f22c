"""A broker that tells: a real receiver of webhooks and a real mail server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd import smtp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.sandbox.serve import running as serving
from tests.support.world import World, running_world, settings_for, upstream


@dataclass
class Receiver:
    """A webhook's receiver: what came, and what it answers."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.came.append((dict(request.headers), await request.body()))
        await self.answering.wait()
        return Response(status_code=self.status, headers=self.headers)


@dataclass
class Mailbox:
    """A mail server: what came, and its reply."""

    port: int = 0
    reply: str = "250 OK"
    to_sender: str = "250 OK"
    came: list[tuple[list[str], EmailMessage]] = field(default_factory=list)

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        envelope.mail_from = address
        return self.to_sender

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.reply.startswith("250"):
            message = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(message, EmailMessage)
            self.came.append((envelope.rcpt_tos, message))
        return self.reply

    def to(self, address: str) -> list[EmailMessage]:
        """What one address got."""
        return [message for to, message in self.came if to == [address]]


@dataclass
class Notifying:
    """A world whose notices go somewhere."""

    world: World
    receiver: Receiver
    mailbox: Mailbox

    async def webhook(self, **more: Any) -> dict[str, Any]:
        """An endpoint at the receiver; its answer, with the secret."""
        wanted = {"url": self.receiver.url + "/hook?token=very-secret-part", **more}
        made: dict[str, Any] = await self.world.call("POST", "/v1/webhooks", status=201, json=wanted)
        return made

    async def happen(self, slug: str = "acme") -> str:
        """Something that everybody is told of: a key given over a link is exposed; the credential's id."""
        world = self.world
        await world.organization(slug)
        intake, secret = await world.request_key(slug)
        assert (await world.submit(intake, secret, world.upstream_keys[slug])).json()["state"] == "accepted"
        credential = (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]
        await world.call(
            "POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "a scanner", "where": "a build log"}
        )
        return str(credential)

    async def deliveries(self, **wanted: str) -> list[dict[str, Any]]:
        """Every delivery."""
        return await self.world.items("/v1/notices/deliveries", limit=500, **wanted)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: smtp.SMTP(box), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    yield box
    server.close()
    await server.wait_closed()


@pytest.fixture
async def notifying(tmp_path: Path, database_url: str, mailbox: Mailbox) -> AsyncIterator[Notifying]:
    receiver = Receiver()
    receiver.answering.set()
    app = Starlette(routes=[Route("/hook", receiver.answer, methods=["POST"])])
    mail = {
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.port,
        "smtp_security": "none",
        "mail_from": "keys@gridwise.example",
        "notify_emails": "security@gridwise.example, security@gridwise.example",  # twice is once
        "private_webhooks": True,
    }
    async with serving(app) as receiver.url, upstream() as (state, url):
        settings = settings_for(tmp_path, database_url, url, **mail)
        async with running_world(settings, state, url) as world:
            yield Notifying(world, receiver, mailbox)
