"""Who calls, established once per request, and what the routes work with."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.log import AuditLog
from broker.audit.timekeeping import Timekeeping
from broker.base.clock import Timepiece
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import Forbidden, Invalid, Unauthenticated
from broker.base.tracing import established
from broker.credentials.verification import Verification
from broker.identity import operators
from broker.identity.access import AccessTokens
from broker.identity.jobs import Jobs
from broker.identity.oauth import TokenEndpoint
from broker.identity.principal import Operator, Role, Workload
from broker.identity.signing import SigningKeys
from broker.intake.deposit import Deposit
from broker.intake.proving import Links
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.leaks.reports import Reports
from broker.leases.leasing import Leasing
from broker.notifications.altered import report
from broker.notifications.outbox import Outbox
from broker.providers.catalog import Catalog
from broker.proxy.call import Proxy
from broker.proxy.flights import Flights
from broker.rotations.requests import Rotating
from broker.web.middleware import ESTABLISHED, Metrics
from broker.web.repeats import Repeats, answer


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
    jobs: Jobs
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
    clock: Timepiece
    timekeeping: Timekeeping
    public_url: str
    vendor_name: str
    vendor_contact: str
    rotation_ahead_days: int
    allow_client_secrets: bool
    approval: bool
    refusals: float
    one_time_token_file: Path


async def services(request: Request) -> Services:
    """The wired services of this application (a coroutine, as FastAPI runs plain functions in a thread)."""
    wired = request.app.state.services
    assert isinstance(wired, Services)
    return wired


Wired = Annotated[Services, Depends(services)]


def address(request: Request) -> str:
    """The caller's address as the server (or its trusted proxy) tells it; empty where that is none."""
    told, _, _zone = (request.client.host if request.client else "").partition("%")
    try:
        return str(ipaddress.ip_address(told))
    except ValueError:  # a proxy handed on what its caller made up
        return ""


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
        self,
        body: BaseModel | None,
        work: Callable[[AsyncSession], Awaitable[BaseModel]],
        status: int = 200,
        *,
        scope: Scope | None = None,
    ) -> Response:
        """Run ``work`` in one transaction and answer with its model; a repeat with the same key answers the same.

        ``scope`` is for work on what is no tenant's, which itself decides what the operator may do: neither its rows
        nor its events pass the fence of an operator who is limited to some tenants.
        """
        repeats = self._repeats(body)
        if earlier := await repeats.answered() if repeats else None:
            return earlier
        async with self.services.db.write(scope or self.scope) as session:
            if repeats is None:
                return answer((await work(session)).model_dump_json().encode(), status)
            if claimed := await repeats.claim(session):
                made = (await work(session)).model_dump_json().encode()
                await repeats.keep(session, made, status)
        return answer(made, status) if claimed else await repeats.answered_by_another()

    async def act(self, body: BaseModel, work: Callable[[], Awaitable[BaseModel]], status: int = 200) -> Response:
        """As :meth:`change`, for work that is more than one transaction; a repeat that comes within it is refused."""
        repeats = self._repeats(body)
        if repeats is None:
            return answer((await work()).model_dump_json().encode(), status)
        if earlier := await repeats.answered():
            return earlier
        async with self.services.db.write(self.scope) as session:
            claimed = await repeats.claim(session)
        if not claimed:
            return await repeats.answered_by_another()
        try:
            made = (await work()).model_dump_json().encode()
        except Exception:
            await repeats.release()
            raise
        async with self.services.db.write(self.scope) as session:
            await repeats.keep(session, made, status)
        return answer(made, status)

    async def cut(
        self,
        body: BaseModel,
        work: Callable[[AsyncSession], Awaitable[BaseModel]],
        what: str = "",
        *,
        scope: Scope | None = None,
    ) -> Response:
        """As :meth:`change`, for what cuts access off: answered when no call under it can pass a byte any more.

        ``what`` is the id that calls rely on; left out, the answer's own.
        """
        response = await self.change(body, work, scope=scope)
        cut_off = what or json.loads(bytes(response.body))["id"]
        self.services.jobs.heard(cut_off)
        await self.services.flights.settled(cut_off)
        return response

    def _repeats(self, body: BaseModel | None) -> Repeats | None:
        """This request among its repeats; None where it has no key."""
        if not self.idempotency_key:
            return None
        text = f"{self.route}\0{body.model_dump_json() if body else ''}".encode()
        digest = hmac.digest(self.services.keys.link, text, hashlib.sha256).hex()
        wired = self.services
        return Repeats(wired.db, wired.keystore, wired.clock, self.operator.id, self.idempotency_key, digest)


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
        operator, actor = await _operator(request, wired)
        route = f"{request.method} {request.url.path}"
        if roles and not operator.may(*roles):
            await _deny(wired, actor, route)
            wanted = " or ".join(sorted({*roles, Role.ADMIN}))
            raise Forbidden(f"This needs the role {wanted}; ask an admin.")
        return Call(wired, operator, actor, route, key)

    return Depends(establish, scope="function")


async def _operator(request: Request, wired: Services) -> tuple[Operator, Actor]:
    try:
        async with wired.db.read(EVERY_TENANT) as session:
            operator = await operators.authenticate(session, wired.keys.token_hash, bearer(request), wired.clock())
    except operators.AccountAltered as refused:
        await report(wired.db, refused.row, wired.clock())
        raise
    _establish(request)
    return operator, operator.actor(address(request), request.headers.get("user-agent", ""))


def _establish(request: Request) -> None:
    """It is known who calls."""
    request.scope[ESTABLISHED] = True
    established()


async def _deny(wired: Services, actor: Actor, route: str) -> None:
    await wired.audit.append(
        Event(kind="auth.denied", time=wired.clock(), actor=actor, decision="denied", reason="role_missing", note=route)
    )


@dataclass(frozen=True, slots=True)
class Job:
    """One request of an established workload."""

    workload: Workload
    actor: Actor


async def job_of_token(request: Request, wired: Services) -> Job:
    """The workload whose access token came along, for what is decided under guards: they know whether it stands.

    Raises:
        Unauthenticated: there is no such token.
    """
    workload = await wired.access_tokens.verify(bearer(request))
    _establish(request)
    return Job(workload, workload.actor(address(request), request.headers.get("user-agent", "")))


async def establish_job(request: Request, wired: Wired) -> Job:
    """A dependency: the workload whose access token came along, which stands; raises Unauthenticated or JobRevoked."""
    job = await job_of_token(request, wired)
    await wired.jobs.check(job.workload.id)
    return job


async def establish_any(request: Request, wired: Wired) -> Job | Call:
    """A dependency: an operator or a workload, told apart by the token's prefix; raises as these two."""
    if bearer(request).startswith("kbo_"):
        operator, actor = await _operator(request, wired)
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
