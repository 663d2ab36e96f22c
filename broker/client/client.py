"""What a job does with the broker: get a token, lease, renew, end."""

from __future__ import annotations

import time
from typing import Any

import httpx2

from broker.client.errors import answer, unreachable
from broker.client.identity import ASSERTION_TYPE, Identity

_EARLY_S = 30


class Client:
    """A job's calls; the access token is got when needed and renewed before it ends."""

    def __init__(self, identity: Identity, *, timeout: float = 10) -> None:
        self._identity = identity
        self._http = httpx2.Client(base_url=identity.broker, timeout=timeout)
        self._token = ""
        self._token_until = 0.0

    def token(self) -> str:
        """An access token that still lasts a while; raises CallFailed."""
        if time.monotonic() >= self._token_until:
            form = {
                "grant_type": "client_credentials",
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": self._identity.assertion(),
            }
            granted = self._send("POST", "/oauth/token", data=form)
            self._token = granted["access_token"]
            self._token_until = time.monotonic() + granted["expires_in"] - _EARLY_S
        return self._token

    def lease(
        self,
        organization: str,
        provider: str,
        *,
        label: str = "default",
        mode: str = "use",
        purpose: str = "",
        ttl: int | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """A lease (``POST /v1/leases``): its token, expiry and proxy address, for ``reveal`` the key.

        Raises:
            CallFailed: policy said no, or no answer came.
        """
        wanted = {
            "organization": organization,
            "provider": provider,
            "label": label,
            "mode": mode,
            "purpose": purpose,
            "ttl": ttl,
        }
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._authorized("POST", "/v1/leases", json=wanted, headers=headers)

    def leases(self) -> dict[str, Any]:
        """The job's own leases, a page."""
        return self._authorized("GET", "/v1/leases")

    def renew(self, lease_id: str, ttl: int | None = None) -> dict[str, Any]:
        """Extend a lease; raises CallFailed."""
        return self._authorized("POST", f"/v1/leases/{lease_id}/renew", json={"ttl": ttl})

    def end(self, lease_id: str) -> dict[str, Any]:
        """Give a lease back; raises CallFailed."""
        return self._authorized("POST", f"/v1/leases/{lease_id}/end")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _authorized(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        headers = {**options.pop("headers", {}), "Authorization": f"Bearer {self.token()}"}
        return self._send(method, path, headers=headers, **options)

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            return answer(self._http.request(method, path, **options))
        except httpx2.HTTPError as error:
            raise unreachable(self._identity.broker, error) from None
