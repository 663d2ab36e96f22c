"""A job that holds a key, and makes every kind of proof of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from broker.formats import base64url, dpop, ids
from tests.support.world import PUBLIC_URL, Job, World

Key = ECKey | OKPKey


def new_key(algorithm: str = "ES256") -> Key:
    """A key for proofs, made by another library than the broker's own client uses."""
    return ECKey.generate_key("P-256") if algorithm == "ES256" else OKPKey.generate_key("Ed25519")


@dataclass
class KeyHolder:
    """Who holds a key.  ``nonce`` is the broker's, as it gave it last."""

    job: Job
    key: Key = field(default_factory=new_key)
    nonce: str = ""

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half."""
        return dict(self.key.as_dict(private=False))

    @property
    def jkt(self) -> str:
        """The key's name."""
        return dpop.thumbprint(self.jwk)

    def proof(
        self, method: str, path: str, token: str = "", *, header: dict[str, Any] | None = None, **said: Any
    ) -> str:
        """A proof; ``header`` and ``said`` replace what it says, and None leaves out."""
        url = path if "://" in path else f"{PUBLIC_URL}{path}"
        now = self.job.world.clock() // 1000
        claims = dpop.claims(jti=ids.new(ids.RequestId), method=method, url=url, now=now, token=token, nonce=self.nonce)
        claims = {name: value for name, value in {**claims, **said}.items() if value is not None}
        protected = {"typ": "dpop+jwt", "alg": "ES256" if isinstance(self.key, ECKey) else "EdDSA", "jwk": self.jwk}
        protected = {name: value for name, value in {**protected, **(header or {})}.items() if value is not None}
        return self.signed(protected, json.dumps(claims).encode())

    def signed(self, header: dict[str, Any], claims: bytes) -> str:
        """These two with the key's signature, whatever they say."""
        joined = f"{base64url.encode(json.dumps(header).encode())}.{base64url.encode(claims)}"
        algorithm = "ES256" if isinstance(self.key, ECKey) else "EdDSA"
        signature = jws.JWSRegistry(algorithms=[algorithm]).get_alg(algorithm).sign(joined.encode(), self.key)
        return f"{joined}.{base64url.encode(signature)}"

    async def fetch_nonce(self) -> None:
        """Ask without a nonce, and keep the one that comes back."""
        self.nonce = ""
        challenged = await self.ask_for_token()
        assert challenged.json()["error"] == "use_dpop_nonce", challenged.text
        self.nonce = challenged.headers["dpop-nonce"]

    async def ask_for_token(self, proof: str | None = None, **more: Any) -> httpx2.Response:
        """One token request with a proof."""
        headers = {"DPoP": self.proof("POST", "/oauth/token") if proof is None else proof}
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self.job.assertion(),
        }
        return await self.job.world.http.post("/oauth/token", data=form, headers=headers, **more)

    async def token(self) -> str:
        """A bound access token."""
        if not self.nonce:
            await self.fetch_nonce()
        answer = await self.ask_for_token()
        assert answer.status_code == 200, answer.text
        assert answer.json()["token_type"] == "DPoP"
        return str(answer.json()["access_token"])

    def carrying(self, token: str, method: str, path: str, **said: Any) -> dict[str, str]:
        """The headers of a request with a bound access token."""
        return {"Authorization": f"DPoP {token}", "DPoP": self.proof(method, path, token, **said)}

    async def ask_for_lease(self, slug: str, **wanted: Any) -> httpx2.Response:
        """One lease request with a bound access token."""
        headers = self.carrying(await self.token(), "POST", "/v1/leases")
        headers |= wanted.pop("headers", {})
        body = {"organization": slug, "provider": "raptor-comply", **wanted}
        return await self.job.world.http.post("/v1/leases", json=body, headers=headers)

    async def lease(self, slug: str, **wanted: Any) -> dict[str, Any]:
        """A bound lease."""
        answer = await self.ask_for_lease(slug, **{"bound": True, **wanted})
        assert answer.status_code == 201, answer.text
        issued: dict[str, Any] = answer.json()
        return issued

    def path(self, lease: dict[str, Any], path: str) -> str:
        """Where a proxied call under a lease goes."""
        return f"/proxy/{lease['lease']['organization']}/{lease['lease']['provider']}{path}"

    async def proxied(self, lease: dict[str, Any], path: str, method: str = "GET", **options: Any) -> httpx2.Response:
        """A proxied call under a bound lease, with a proof."""
        where = self.path(lease, path)
        headers = {"DPoP": self.proof(method, where, lease["token"]), **options.pop("headers", {})}
        return await self.job.world.proxied(lease, path, method, headers=headers, **options)


async def key_holder(world: World, **grant: Any) -> KeyHolder:
    """A job with a grant for acme's key, and with a key of its own."""
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme", **grant)
    return KeyHolder(job)
