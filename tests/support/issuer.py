"""An identity provider in this process, with a switch for every fault."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from broker.base.clock import Clock, now_ms
from broker.sandbox.serve import running
from tests.support.certificates import serving_tls

Pair = RSAKey | ECKey | OKPKey
CLIENT = "keybroker"
SECRET = "the secret of our client"


def pair(kid: str = "k1", kind: str = "RSA") -> Pair:
    """A fresh pair of keys."""
    more: Any = {"kid": kid, "use": "sig"}
    match kind:
        case "RSA":
            return RSAKey.generate_key(2048, more)
        case "Ed25519":
            return OKPKey.generate_key("Ed25519", more)
    return ECKey.generate_key(kind, more)


def signed(key: Pair, claims: Mapping[str, Any] | bytes, alg: str = "RS256", **header: Any) -> str:
    """A JWT by this key, whatever it says."""
    head = {"alg": alg, "kid": key.kid, "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = 1 << 20
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jws.serialize_compact(head, body, key, algorithms=[alg], registry=registry)


@dataclass
class FakeIssuer:
    """A provider of OpenID Connect, as far as a broker asks one.

    It also is what a cluster's API server and a trust domain's endpoint are to a broker.  ``answers`` replaces what is
    answered at a path.  With ``bearer`` it answers to nobody else.  ``codes`` has the claims of the ID token of each
    code that was given out, and ``refreshes`` those that go with each refresh token.
    """

    clock: Clock = now_ms
    url: str = ""
    keys: list[Pair] = field(default_factory=lambda: [pair()])
    metadata: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Callable[[], Response]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    challenges: dict[str, str] = field(default_factory=dict)
    refreshes: dict[str, dict[str, Any]] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    token_answer: dict[str, Any] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    bearers: list[str] = field(default_factory=list)
    bearer: str = ""

    @property
    def second(self) -> int:
        """The present time in seconds."""
        return self.clock() // 1000

    def claims(self, **more: Any) -> dict[str, Any]:
        """What an ID token of this moment says; None leaves a claim out."""
        now = self.second
        usual = {"iss": self.url, "aud": CLIENT, "sub": "ada-1", "iat": now, "exp": now + 300, "auth_time": now}
        return {name: value for name, value in {**usual, **more}.items() if value is not None}

    def sign(self, claims: Mapping[str, Any] | bytes, **header: Any) -> str:
        """A token by the first key."""
        return signed(self.keys[0], claims, **{**self.header, **header})

    def give_code(self, parameters: Mapping[str, str], **claims: Any) -> str:
        """A code for the person who came with these parameters of the authorization URL."""
        code = secrets.token_urlsafe(16)
        self.challenges[code] = parameters["code_challenge"]
        self.codes[code] = self.claims(nonce=parameters["nonce"]) | claims
        return code

    def discovery(self) -> dict[str, Any]:
        """What it says of itself."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "end_session_endpoint": f"{self.url}/logout",
            "code_challenge_methods_supported": ["S256"],
            **self.metadata,
        }

    def jwks(self) -> dict[str, Any]:
        """Its published keys."""
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def bundle(self) -> dict[str, Any]:
        """Its keys as a trust domain's."""
        return {"keys": [{**key, "use": "jwt-svid"} for key in self.jwks()["keys"]], "spiffe_sequence": 1}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = request.url.path
        self.asked[path] += 1
        self.bearers.append(request.headers.get("Authorization", ""))
        if self.bearer and self.bearers[-1] != f"Bearer {self.bearer}":
            answer = Response(status_code=401)
        elif path in self.answers:
            answer = self.answers[path]()
        elif path == "/.well-known/openid-configuration":
            answer = JSONResponse(self.discovery())
        elif path in {"/jwks", "/openid/v1/jwks"}:
            answer = JSONResponse(self.jwks())
        elif path == "/bundle":
            answer = JSONResponse(self.bundle())
        elif path == "/token":
            answer = self._token(await request.body(), request.headers.get("authorization", ""))
        else:
            answer = Response(status_code=404)
        await answer(scope, receive, send)

    def _token(self, body: bytes, authorization: str) -> Response:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.forms.append(form)
        if authorization:
            told = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            if told.replace("+", " ") != f"{CLIENT}:{SECRET}":
                return JSONResponse({"error": "invalid_client"}, 401)
        if form["grant_type"] == "refresh_token":
            claims = self.refreshes.get(form["refresh_token"])
            if claims is None:
                return JSONResponse({"error": "invalid_grant"}, 400)
            return JSONResponse({"access_token": "at", "id_token": self.sign(self.claims(**claims))})
        claims = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()[:-1]
        if claims is None or self.challenges.pop(form["code"]) != challenge:
            return JSONResponse({"error": "invalid_grant", "error_description": "<b>echo me</b>"}, 400)
        token = secrets.token_urlsafe(8)
        self.refreshes[token] = {
            name: value for name, value in claims.items() if name not in {"nonce", "iat", "exp", "auth_time"}
        }
        said = {"access_token": "at", "token_type": "Bearer", "refresh_token": token, "id_token": self.sign(claims)}
        return JSONResponse({name: value for name, value in {**said, **self.token_answer}.items() if value is not None})


@asynccontextmanager
async def fake_issuer(clock: Clock = now_ms) -> AsyncIterator[FakeIssuer]:
    """A provider that is served until the context closes."""
    one = FakeIssuer(clock)
    async with running(one) as one.url:
        yield one


@asynccontextmanager
async def in_tls(url: str, directory: Path) -> AsyncIterator[str]:
    """The same server behind TLS, with the certificate that ``certify`` made in this directory."""
    behind = urlsplit(url)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", ssl=serving_tls(directory))
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes, to its end."""
    with suppress(ConnectionError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    writer.close()
