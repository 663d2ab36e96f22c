"""What a job does with the broker: get a token, lease, renew and end.

It may also use an upstream under a lease that renews itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Self

import httpx2

from broker.client import ambience, answer_check
from broker.client.connecting import PROXY, caller
from broker.client.errors import Answer, CallFailed, another_answer, answer, token_answer, unreachable
from broker.client.forks import PerProcess
from broker.client.identity import Identity, from_environment
from broker.client.keyless import KeylessIdentity
from broker.client.leases import IssuedLease, Lease, Workload
from broker.client.proofs import ProofKey
from broker.client.renewal import EARLY, RenewingLease
from broker.client.upstream import Upstream
from broker.formats import dpop

# So many leases are asked for at once; the broker gives no more.
PAGE = 500
# A refusal: the grant's leases are for access tokens that are bound to a key.
_KEY_NEEDED = "bound_token_required"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What opens the broker's own API to a job, for ``expires_in`` seconds more."""

    token: str = field(repr=False)
    expires_in: int


class Client:
    """A job's calls.

    The access token is got when it is needed, and renewed before it ends.  Threads may share a client.  So may a child
    of ``fork()``, which has its own token and connections.
    """

    def __init__(
        self,
        identity: Identity | KeylessIdentity,
        *,
        timeout: float = 10,
        proxy: str | None = None,
        bound: bool = False,
    ) -> None:
        """Make the client; it calls nobody yet.

        Args:
            identity: whose calls.
            timeout: seconds that a call may wait for the broker.
            proxy: URL of the HTTP proxy that leads to the broker.  Left out, calls go there directly: the environment's
                ``http_proxy`` and its like are not read.
            bound: every lease is bound to a key of this process (DPoP, RFC 9449), also where its grant doesn't ask for
                that.

        Raises:
            ProxyUnusable: ``proxy`` is no such URL.
            CallFailed: the broker's address has no TLS and isn't of this machine.
        """
        self._identity = identity
        self._proxy = proxy
        self._bound = bound
        self._session = PerProcess(partial(_Session, identity, timeout, proxy))
        self._session()

    @classmethod
    def from_environment(cls) -> Self:
        """The client that the environment names, as it does for commands.

        BROKER_IDENTITY names the file, BROKER_URL a broker that moved, BROKER_CLIENT_PROXY the proxy that leads there.

        Raises:
            IdentityUnusable: there is no such identity. Others as for a client that is made otherwise.
        """
        return cls(from_environment(), proxy=os.environ.get(PROXY) or None)

    @classmethod
    def ambient(
        cls, workload: str = "", *, broker: str = "", token_from: str = "", audience: str = "", bound: bool = False
    ) -> Self:
        """The client of a job without a key, whose platform's token proves who it is.

        Args:
            workload: the job's id, ``wkl_…``; left out, BROKER_WORKLOAD's.
            broker: the broker's address; left out, BROKER_URL's.
            token_from: where the token is, such as ``github`` or ``file:PATH``; left out, it is looked for.
            audience: whom the token is for, if that isn't the broker's address.
            bound: every lease is bound to a key of this process.

        Raises:
            IdentityUnusable: something isn't named. CallFailed: no token was found.
            Others as for a client that is made otherwise.
        """
        who = ambience.identity(broker=broker, workload=workload, token_from=token_from, audience=audience)
        return cls(who, proxy=os.environ.get(PROXY) or None, bound=bound)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def token(self) -> str:
        """An access token that still lasts a while; raises CallFailed."""
        return self._session().token()

    def access_token(self) -> AccessToken:
        """The same, with how long it lasts; raises CallFailed.

        It is bound to no key, so that whoever it is given to can use it.
        """
        return self._session().access_token(bound=False)

    def proof(self, method: str, url: str, token: str) -> str:
        """The DPoP header for one call with the token of a bound lease of this process."""
        return self._session().proofs.proof(method, url, token)

    def note(self, headers: Mapping[str, str]) -> None:
        """Read the headers of such a call's answer: the next proof holds the nonce in them."""
        self._session().proofs.note(headers)

    def upstream(
        self,
        organization: str,
        provider: str,
        *,
        label: str = "default",
        purpose: str = "",
        ttl: int | None = None,
        grant: str = "",
        bound: bool = False,
        keep_token: bool = False,
    ) -> Upstream:
        """An organization's upstream through the broker, for an HTTP client.

        Its lease renews itself until it is closed.

        Args:
            organization: slug or id.
            provider: id.
            label: the credential's.
            purpose: what the access is for.
            ttl: seconds that the lease lasts between renewals; left out, the broker's default.
            grant: one of several grants; left out, the broadest.
            bound: the lease is of use only with proofs of this process's key, which the upstream's calls then carry.
                If its grant asks for that, it is so anyway.
            keep_token: the token was handed on and can't be exchanged.  Then the lease is renewed as long as the grant
                allows, and no new one is taken.

        Raises:
            CallFailed: policy said no, or no answer came.
        """
        wanted = {
            "organization": organization,
            "provider": provider,
            "label": label,
            "purpose": purpose,
            "ttl": ttl,
            "grant": grant,
            "bound": bound,
        }
        return Upstream(RenewingLease(self, wanted, keep_token=keep_token), proxy=self._proxy)

    def lease(
        self,
        organization: str,
        provider: str,
        *,
        label: str = "default",
        mode: str = "use",
        purpose: str = "",
        ttl: int | None = None,
        grant: str = "",
        bound: bool = False,
        idempotency_key: str | None = None,
    ) -> IssuedLease:
        """A lease (``POST /v1/leases``): its token, expiry and proxy address, or the key to see.

        If it is bound, because ``bound`` or its grant asks for that, each call needs a :meth:`proof`.

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
            "grant": grant,
            **({"bound": True} if bound or self._bound else {}),  # brokers from before don't know it
        }
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        session = self._session()
        session.bound = session.bound or "bound" in wanted
        issued = session.authorized("POST", "/v1/leases", json=wanted, headers=headers)
        answer_check.issued(issued, wanted, self._identity)
        return IssuedLease.of(issued)

    def leases(self) -> list[Lease]:
        """The job's own leases, oldest first; raises CallFailed."""
        return list(self.each_lease())

    def each_lease(self, *, newest: bool = False) -> Iterator[Lease]:
        """The job's own leases, asked for page by page as they are taken.

        Args:
            newest: the newest come first.

        Raises:
            CallFailed: as they are taken.
        """
        cursor, order = "", "newest" if newest else "oldest"
        while True:
            wanted = {"limit": PAGE, "cursor": cursor, "order": order}
            page = self._session().authorized("GET", "/v1/leases", params=wanted)
            answer_check.own_leases(page, self._identity)
            yield from map(Lease.of, page["items"])
            if not page.get("next"):
                return
            if page["next"] == cursor:  # an answer that was kept on the way would be read without an end
                raise another_answer("next")
            cursor = page["next"]

    def find(self, lease_id: str) -> Lease:
        """One of the job's own leases; raises CallFailed."""
        return self._of_lease("GET", lease_id, "")

    def renew(self, lease_id: str, ttl: int | None = None) -> Lease:
        """Extend a lease; raises CallFailed."""
        return self._of_lease("POST", lease_id, "/renew", json={"ttl": ttl})

    def end(self, lease_id: str) -> Lease:
        """Give a lease back; raises CallFailed."""
        return self._of_lease("POST", lease_id, "/end")

    def rotate_key(self, public_jwk: dict[str, Any], *, overlap_seconds: int) -> Workload:
        """Register another public key of this job.

        The present one works for ``overlap_seconds`` more.

        Raises:
            CallFailed: the broker said no, or didn't answer.  The same key may then be sent again.
        """
        body = {"jwk": public_jwk, "overlap_seconds": overlap_seconds}
        made = self._session().authorized("POST", f"/v1/workloads/{self._identity.client_id}/keys", json=body)
        if made.get("id") != self._identity.client_id:
            raise another_answer("id")
        return Workload.of(made)

    def close(self) -> None:
        """Close this process's connections."""
        if session := self._session.made:
            session.close()

    def _of_lease(self, method: str, lease_id: str, what: str, **options: Any) -> Lease:
        lease = self._session().authorized(method, f"/v1/leases/{lease_id}{what}", **options)
        answer_check.same_lease(lease, lease_id, self._identity)
        return Lease.of(lease)


@dataclass(slots=True)
class _Kept:
    """An access token, and when it is renewed and ends by the monotonic clock."""

    token: str = ""
    renew_at: float = 0.0
    ends_at: float = 0.0


class _Session:
    """One process's calls, and its access tokens.

    One is for whoever it is given to, and one needs the process's key.  Once a lease is to be ``bound``, the process's
    own calls are made with the second one.
    """

    def __init__(self, identity: Identity | KeylessIdentity, timeout: float, proxy: str | None) -> None:
        self._identity = identity
        self._proxy = proxy
        self._http = caller(identity.broker, timeout=timeout, proxy=proxy)
        self._renewing = threading.Lock()
        self._kept = {False: _Kept(), True: _Kept()}
        self.bound = False
        self.proofs = ProofKey()

    def token(self) -> str:
        return self.access_token(bound=False).token

    def access_token(self, *, bound: bool) -> AccessToken:
        with self._renewing:
            kept = self._kept[bound]
            if time.monotonic() >= kept.renew_at:
                asked_at = time.monotonic()
                granted = self._granted(bound=bound)
                kept.token = granted["access_token"]
                kept.renew_at = asked_at + granted["expires_in"] * EARLY
                kept.ends_at = asked_at + granted["expires_in"]
            return AccessToken(kept.token, int(kept.ends_at - time.monotonic()))

    def _granted(self, *, bound: bool) -> dict[str, Any]:
        form = {"grant_type": "client_credentials", **self._identity.proof()}
        try:
            send = self._proved if bound else self._send
            granted = send("POST", "/oauth/token", read=token_answer, data=form)
        except CallFailed as refused:
            if refused.problem.get("error") == "invalid_client" and self._identity.moved_from:
                refused.args = (f"{refused} {self._identity.named_by}",)
            raise
        answer_check.token(granted, bound=bound)
        return granted

    def authorized(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            return self._authorized(method, path, **options)
        except CallFailed as failure:
            if failure.code != _KEY_NEEDED or self.bound:
                raise
        self.bound = True  # the grant asks for it
        return self._authorized(method, path, **options)

    def _authorized(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        bound = self.bound
        token = self.access_token(bound=bound).token
        try:
            return self._with_token(token, method, path, bound=bound, **options)
        except CallFailed as failure:
            if failure.code != "trust_over" and (failure.status != HTTPStatus.UNAUTHORIZED or not failure.problem):
                raise
        # It expired by the broker's clock. If this machine was suspended, its own clock has stood still. Or the trust
        # that it stands on is over, and there may be another one by now.
        self._forget(token, bound=bound)
        token = self.access_token(bound=bound).token
        return self._with_token(token, method, path, bound=bound, **options)

    def _with_token(self, token: str, method: str, path: str, *, bound: bool, **options: Any) -> dict[str, Any]:
        scheme = dpop.HEADER if bound else "Bearer"
        headers = {**options.pop("headers", {}), "Authorization": f"{scheme} {token}"}
        if bound:
            return self._proved(method, path, token=token, headers=headers, **options)
        return self._send(method, path, headers=headers, **options)

    def _proved(self, method: str, path: str, *, token: str = "", **options: Any) -> dict[str, Any]:
        """Send a request with a proof, and once more if the broker asks for another nonce."""
        headers = options.pop("headers", {})

        def proved() -> dict[str, Any]:
            proof = self.proofs.proof(method, f"{self._identity.broker}{path}", token)
            return self._send(method, path, headers={**headers, dpop.HEADER: proof}, **options)

        try:
            return proved()
        except CallFailed as failure:
            if failure.code != dpop.NONCE_NEEDED:
                raise
        return proved()

    def close(self) -> None:
        self._http.close()

    def _forget(self, token: str, *, bound: bool) -> None:
        with self._renewing:
            if token == self._kept[bound].token:
                self._kept[bound].renew_at = 0.0

    def _send(
        self, method: str, path: str, *, read: Callable[[Answer], dict[str, Any]] = answer, **options: Any
    ) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
            self.proofs.note(response.headers)
            return read(response)
        except httpx2.HTTPError as error:
            raise unreachable(self._identity.broker, error, self._proxy, named_by=self._identity.named_by) from None
