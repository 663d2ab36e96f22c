"""Who calls, established once per request, and what the routes work with."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.log import AuditLog
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import Forbidden, Invalid, Unauthenticated
from broker.base.secret import Secret
from broker.credentials.verification import Verification
from broker.identity import operators
from broker.identity.access import AccessTokens
from broker.identity.oauth import TokenEndpoint
from broker.identity.principal import Operator, Role, Workload
from broker.identity.signing import SigningKeys
from broker.intake.deposit import Deposit
from broker.intake.links import Links
from broker.intake.rotating import Rotating
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.leaks.reports import Reports
from broker.leases.leasing import Leasing
from broker.notifications.outbox import Outbox
from broker.providers.catalog import Catalog
from broker.proxy.call import Proxy
from broker.proxy.flights import Flights
from broker.web.middleware import Metrics
from broker.web.tables import IdempotencyRow

_IDEMPOTENCY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes call, wired once in ``broker.app``."""

    db: Database
    audit: AuditLog
    keystore: Keystore
    keys: InternalKeys
    catalog: Catalog
    signing: SigningKeys
    access_tokens: AccessTokens
    token_endpoint: TokenEndpoint
    verification: Verification
    leasing: Leasing
    links: Links
    deposit: Deposit
    flights: Flights
    proxy: Proxy
    rotating: Rotating
    outbox: Outbox
    reports: Reports
    metrics: Metrics
    clock: Clock
    public_url: str
    vendor_name: str
    vendor_contact: str
    rotation_ahead_days: int
    allow_client_secrets: bool


async def services(request: Request) -> Services:
    """The wired services of this application (a coroutine, as FastAPI runs plain functions in a thread)."""
    wired = request.app.state.services
    assert isinstance(wired, Services)
    return wired


Wired = Annotated[Services, Depends(services)]


def address(request: Request) -> str:
    """The caller's address as the server (or its trusted proxy) tells it."""
    return request.client.host if request.client else ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an established operator."""

    services: Services
    operator: Operator
    actor: Actor
    route: str
    idempotency_key: str

    @property
    def scope(self) -> Scope:
        """The tenants that the operator may see."""
        return self.operator.scope

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self.services.clock()

    async def change(
        self, body: BaseModel | None, work: Callable[[AsyncSession], Awaitable[BaseModel]], status: int = 200
    ) -> Response:
        """Run ``work`` in one transaction and answer with its model; a repeat with the same key answers the same."""
        if not self.idempotency_key:
            async with self.services.db.write(self.scope) as session:
                return _json((await work(session)).model_dump_json().encode(), status)
        digest = self._digest(body)
        if earlier := await self._earlier(digest):
            return earlier
        try:
            async with self.services.db.write(self.scope) as session:
                answer = (await work(session)).model_dump_json().encode()
                await self._keep(session, digest, status, answer)
        except IntegrityError:  # the same key at the same moment
            if earlier := await self._earlier(digest):
                return earlier
            raise
        return _json(answer, status)

    async def act(self, body: BaseModel, work: Callable[[], Awaitable[BaseModel]], status: int = 200) -> Response:
        """As :meth:`change`, for work that is more than one transaction: its answer is kept once it is done."""
        digest = self._digest(body)
        if self.idempotency_key and (earlier := await self._earlier(digest)):
            return earlier
        answer = (await work()).model_dump_json().encode()
        if self.idempotency_key:
            async with self.services.db.write(self.scope) as session:
                await self._keep(session, digest, status, answer)
        return _json(answer, status)

    async def cut(
        self, body: BaseModel, work: Callable[[AsyncSession], Awaitable[BaseModel]], what: str = ""
    ) -> Response:
        """As :meth:`change`, for what cuts access off: answered when no call under it can pass a byte any more.

        ``what`` is the id that calls rely on; left out, the answer's own.
        """
        response = await self.change(body, work)
        await self.services.flights.settled(what or json.loads(bytes(response.body))["id"])
        return response

    def _digest(self, body: BaseModel | None) -> str:
        text = f"{self.route}\0{body.model_dump_json() if body else ''}".encode()
        return hmac.digest(self.services.keys.link, text, hashlib.sha256).hex()

    async def _earlier(self, digest: str) -> Response | None:
        async with self.services.db.read(EVERY_TENANT) as session:
            row = await session.scalar(
                select(IdempotencyRow).where(
                    IdempotencyRow.principal_id == self.operator.id, IdempotencyRow.key == self.idempotency_key
                )
            )
        if row is None or row.expires_at <= self.now:
            return None
        if row.request_hash != digest:
            raise Invalid("Idempotency-Key: was used for another request; use a new one.")
        return _json((await self.services.keystore.open(row.answer_sealed, row.binding)).reveal(), row.status)

    async def _keep(self, session: AsyncSession, digest: str, status: int, answer: bytes) -> None:
        row = IdempotencyRow(
            principal_id=self.operator.id,
            key=self.idempotency_key,
            request_hash=digest,
            status=status,
            expires_at=self.now + _IDEMPOTENCY_MS,
        )
        row.answer_sealed = await self.services.keystore.seal(Secret(answer), row.binding)
        await session.merge(row)
        await session.flush()


def _json(body: bytes, status: int) -> Response:
    return Response(body, status, media_type="application/json")


_bearer = HTTPBearer(auto_error=False, description="An operator's token (kbo_…) or a workload's access token.")
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="1 to 128 visible characters; repeats answer the same.")
]


def checked_key(key: str | None) -> str:
    """The Idempotency-Key, or empty; raises Invalid."""
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid("Idempotency-Key: use 1 to 128 visible ASCII characters.")
    return key or ""


def bearer(request: Request) -> str:
    """The unverified bearer token (RFC 6750 §2.1); raises Unauthenticated."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise Unauthenticated("Send `Authorization: Bearer TOKEN`.")
    return value.strip()


def operator_call(*roles: Role) -> Any:  # noqa: ANN401 - FastAPI's Depends is Any
    """A dependency: the call of an operator with one of ``roles`` (or any, where none is named)."""

    async def establish(request: Request, wired: Wired, idempotency_key: IdempotencyKey = None) -> Call:
        key = checked_key(idempotency_key)
        async with wired.db.read(EVERY_TENANT) as session:
            operator = await operators.authenticate(session, wired.keys.token_hash, bearer(request), wired.clock())
        actor = operator.actor(address(request), request.headers.get("user-agent", ""))
        route = f"{request.method} {request.url.path}"
        if roles and not operator.may(*roles):
            await _deny(wired, actor, route)
            wanted = " or ".join(sorted({*roles, Role.ADMIN}))
            raise Forbidden(f"This needs the role {wanted}; ask an admin.")
        return Call(wired, operator, actor, route, key)

    return Depends(establish, scope="function")


async def _deny(wired: Services, actor: Actor, route: str) -> None:
    await wired.audit.append(
        Event(kind="auth.denied", time=wired.clock(), actor=actor, decision="denied", reason="role_missing", note=route)
    )


@dataclass(frozen=True, slots=True)
class Job:
    """One request of an established workload."""

    workload: Workload
    actor: Actor


async def establish_job(request: Request, wired: Wired) -> Job:
    """A dependency: the workload whose access token came along; raises Unauthenticated."""
    workload = await wired.access_tokens.verify(bearer(request))
    return Job(workload, workload.actor(address(request), request.headers.get("user-agent", "")))


async def establish_any(request: Request, wired: Wired) -> Job | Call:
    """A dependency: an operator or a workload, told apart by the token's prefix; raises Unauthenticated."""
    if bearer(request).startswith("kbo_"):
        async with wired.db.read(EVERY_TENANT) as session:
            operator = await operators.authenticate(session, wired.keys.token_hash, bearer(request), wired.clock())
        actor = operator.actor(address(request), request.headers.get("user-agent", ""))
        return Call(wired, operator, actor, f"{request.method} {request.url.path}", "")
    return await establish_job(request, wired)


SECURED = [Depends(_bearer)]
ByAnyone = Annotated[Call, operator_call()]
ByOperator = Annotated[Call, operator_call(Role.OPERATOR)]
BySecurity = Annotated[Call, operator_call(Role.SECURITY)]
ByEither = Annotated[Call, operator_call(Role.OPERATOR, Role.SECURITY)]
ByAdmin = Annotated[Call, operator_call(Role.ADMIN)]
ByJob = Annotated[Job, Depends(establish_job)]
ByJobOrOperator = Annotated[Job | Call, Depends(establish_any)]
