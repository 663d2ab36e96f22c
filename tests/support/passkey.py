"""People at a browser, with a device that holds passkeys and lies about what it is told to."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
import httpx2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from broker.formats import base64url
from tests.support.world import World

HOST = "localhost"
ORIGIN = f"http://{HOST}:8080"
_PRESENT, _VERIFIED, _HOLDS_KEY = 0x01, 0x04, 0x40


@dataclass
class Held:
    """A passkey on a device."""

    private: ec.EllipticCurvePrivateKey
    handle: str
    count: int = 0


@dataclass
class Device:
    """Makes passkeys and proves them; what is set here is what it lies about."""

    origin: str = ORIGIN
    rp_id: str = HOST
    verified: bool = True
    counts: bool = False
    cross_origin: bool = False
    held: dict[bytes, Held] = field(default_factory=dict)

    def make(self, options: dict[str, Any]) -> dict[str, Any]:
        """What navigator.credentials.create() would answer."""
        private, credential_id = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(32)
        self.held[credential_id] = held = Held(private, options["user"]["id"])
        point = private.public_key().public_numbers()
        key = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32), -3: point.y.to_bytes(32)})
        data = self._data(held, _HOLDS_KEY) + bytes(16) + len(credential_id).to_bytes(2) + credential_id + key
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client("webauthn.create", options["challenge"])
        return self._answer(credential_id, client, attestationObject=base64url.encode(attestation))

    def prove(self, options: dict[str, Any], credential_id: bytes | None = None) -> dict[str, Any]:
        """What navigator.credentials.get() would answer, with the newest passkey if none is named."""
        named = credential_id or next(reversed(self.held))
        held = self.held[named]
        held.count += self.counts
        data, client = self._data(held), self._client("webauthn.get", options["challenge"])
        signature = held.private.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._answer(
            named,
            client,
            authenticatorData=base64url.encode(data),
            signature=base64url.encode(signature),
            userHandle=held.handle,
        )

    def _data(self, held: Held, more: int = 0) -> bytes:
        flags = _PRESENT | (_VERIFIED if self.verified else 0) | more
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + held.count.to_bytes(4)

    def _client(self, kind: str, challenge: str) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": self.cross_origin}
        return json.dumps(said).encode()

    def _answer(self, credential_id: bytes, client: bytes, **response: str) -> dict[str, Any]:
        name = base64url.encode(credential_id)
        more = {"clientDataJSON": base64url.encode(client), **response}
        return {"id": name, "rawId": name, "type": "public-key", "response": more}


class Person:
    """Somebody at a browser, with a device."""

    def __init__(self, world: World, device: Device | None = None) -> None:
        self.device = device or Device()
        transport = httpx2.ASGITransport(app=world.edge)
        self.http = httpx2.AsyncClient(transport=transport, base_url=ORIGIN, timeout=60)

    async def send(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        """Post as a script of our own page does."""
        return await self.http.post(path, json=body or {}, headers={"Origin": ORIGIN, **headers})

    async def say(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The same, where it has to succeed."""
        answer = await self.send(path, body)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def use(self, link: str) -> httpx2.Response:
        """Press the button of a one-time link's page."""
        return await self.send("/login/link", {"secret": link.partition("#")[2]})

    async def add(self, name: str = "laptop") -> httpx2.Response:
        """Make a passkey."""
        answer = self.device.make(await self.say("/login/passkey/add/begin"))
        return await self.send("/login/passkey/add/finish", {"answer": answer, "name": name})

    async def sign_in(self, route: str = "/login/passkey", credential_id: bytes | None = None) -> httpx2.Response:
        """Prove a passkey: to sign in, or on ``/login/again``."""
        options = await self.say(f"{route}/begin")
        return await self.send(f"{route}/finish", {"answer": self.device.prove(options, credential_id)})

    async def who(self) -> str | None:
        """Whose session the browser has; None if it has none."""
        answer = await self.http.get("/v1/operators/me")
        return str(answer.json()["name"]) if answer.status_code == 200 else None
