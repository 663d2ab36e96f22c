"""Who calls, established once per request: an operator, or a workload."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Scope
from broker.base.errors import Forbidden, Unauthenticated
from broker.base.tracing import established
from broker.identity import operators, sessions
from broker.identity.dpop import spent
from broker.identity.principal import Account, Role, Workload
from broker.identity.sessions import Client
from broker.notifications.altered import report
from broker.web import access_tokens, cookies
from broker.web.idempotency import IdempotencyKey, Repeats, answer, checked_key, told
from broker.web.middleware import ESTABLISHED, header
from broker.web.services import Services, Wired


def address(request: Request) -> str:
    """The caller's address, as the edge has it; empty if there is none."""
    host, _ = request.scope.get("client") or ("", 0)
    return str(host)


def agent(request: Request) -> str:
    """What the caller says that it is; empty if it says nothing."""
    return header(request.scope, b"user-agent") or ""


class ReauthenticationNeeded(Unauthenticated):
    """The person signed in too long ago for this (RFC 9470)."""

    code = "reauthentication_needed"
    title = "Sign in again for this"
    challenge = f'Bearer error="insufficient_user_authentication", max_age={sessions.FRESH_MS // 1000}'

    def __init__(self) -> None:
        super().__init__("This needs a proof of the last 5 minutes that it is you. Sign in again: `broker login`.")


class PersonNeeded(Forbidden):
    """A machine may not do this, whatever its roles."""

    code = "person_needed"
    title = "Only a person may do this"


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an established operator."""

    services: Services
    account: Account
    actor: Actor
    route: str
    idempotency_key: str

    @property
    def scope(self) -> Scope:
        """The tenants that the operator may see."""
        return self.account.scope

    @property
    def now(self) -> Millis:
        """Milliseconds since the epoch."""
        return self.services.parts.clock()

    def insist_on_a_fresh_person(self) -> None:
        """Refuse whoever didn't prove within the last minutes that it is they who sit there.

        Raises:
            ReauthenticationNeeded: a person, too long ago. PersonNeeded: a machine, which can't.
        """
        if self.account.session is None:
            raise PersonNeeded("A machine's token can't do this. A person has to: `broker login`.")
        if self.now >= self.account.session.authenticated_at + sessions.FRESH_MS:
            raise ReauthenticationNeeded

    async def change(
        self,
        body: BaseModel | None,
        work: Callable[[AsyncSession], Awaitable[BaseModel]],
        status: int = 200,
        *,
        scope: Scope | None = None,
    ) -> Response:
        """Run ``work`` in one transaction and answer with its model.

        A repeat with the same idempotency key gets the same answer.

        Args:
            scope: for work on what is no tenant's.  Neither its rows nor its events pass the fence of an operator who
                is limited to some tenants.  Such work decides by itself what the operator may do.
        """
        within = scope or self.scope

        async def standing(session: AsyncSession) -> BaseModel:
            if self.account.session is not None:
                await sessions.insist(session, self.account.session.id, self.now)
            return await work(session)

        if repeats := self._repeats(body):
            return await repeats.change(within, standing, status)
        async with self.services.parts.db.write(within) as session:
            return answer(await standing(session), status)

    async def act(
        self, body: BaseModel | None, work: Callable[[], Awaitable[BaseModel]], status: int = 200
    ) -> Response:
        """Run work that is more than one transaction, else as :meth:`change`.

        A repeat that comes while it runs is refused.
        """
        if repeats := self._repeats(body):
            return await repeats.act(self.scope, work, status)
        return answer(await work(), status)

    async def cut(
        self,
        body: BaseModel,
        work: Callable[[AsyncSession], Awaitable[BaseModel]],
        what: str = "",
        *,
        scope: Scope | None = None,
    ) -> Response:
        """Run work that cuts access off, else as :meth:`change`.

        It answers when no call under that access can pass a byte any more.

        Args:
            what: the id that calls rely on; left out, it is the answer's own.
        """
        response = await self.change(body, work, scope=scope)
        cut_off = what or told(response)["id"]
        self.services.jobs.heard(cut_off)
        await self.services.in_flight.drained(cut_off)
        return response

    def _repeats(self, body: BaseModel | None) -> Repeats | None:
        """This request among its repeats; None if it has no key."""
        if not self.idempotency_key:
            return None
        text = f"{self.route}\0{body.model_dump_json() if body else ''}".encode()
        parts = self.services.parts
        keys = (parts.keys.idempotency, parts.keys.idempotency_previous)
        digest, previous = (hmac.digest(key, text, hashlib.sha256).hex() for key in keys)
        return Repeats(parts.db, parts.keystore, parts.clock, self.account.id, self.idempotency_key, digest, previous)


_bearer = HTTPBearer(auto_error=False, description="A token: a session's (kbs_…), a machine's (kbo_…) or a workload's.")
WORKLOAD = "workload"


def _known_to_the_api(*callers: str) -> Any:  # noqa: ANN401 - FastAPI's Security is Any
    """What lets a dependency's callers stand in the API's description; it checks nothing."""
    return Security(_bearer, scopes=[*callers])


def _with(*roles: Role) -> tuple[str, ...]:
    """Every role that may do what is for ``roles``, or for any if none is named."""
    return tuple(sorted({*roles, Role.ADMIN} if roles else Role))


def bearer(request: Request) -> str:
    """The unverified bearer token (RFC 6750 §2.1); raises Unauthenticated."""
    scheme, _, value = (header(request.scope, b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise Unauthenticated("Send `Authorization: Bearer TOKEN`.")
    return value.strip()


def operator_call(*roles: Role) -> Any:  # noqa: ANN401 - FastAPI's Depends is Any
    """A dependency: the call of an operator with one of ``roles``, or any if none is named."""

    async def establish(
        request: Request,
        wired: Wired,
        idempotency_key: IdempotencyKey = None,
        _token: object = _known_to_the_api(*_with(*roles)),
    ) -> Call:
        return await _operators_call(request, wired, checked_key(idempotency_key), roles)

    return Depends(establish, scope="function")


async def operator_of(request: Request, wired: Services) -> Call:
    """The call of whoever is signed in, for an open page; raises Unauthenticated."""
    account, actor = await _account(request, wired)
    return Call(wired, account, actor, f"{request.method} {request.url.path}", "")


async def _operators_call(request: Request, wired: Services, key: str, roles: tuple[Role, ...]) -> Call:
    account, actor = await _account(request, wired)
    refuse_unknown_parameters(request)
    route = f"{request.method} {request.url.path}"
    if roles and not account.may(*roles):
        await _deny(wired, actor, route)
        wanted = " or ".join(_with(*roles))
        raise Forbidden(f"This needs the role {wanted}; ask an admin.")
    return Call(wired, account, actor, route, key)


async def _account(request: Request, wired: Services) -> tuple[Account, Actor]:
    cookie = None if header(request.scope, b"authorization") else cookies.token(request, wired.options.public_url)
    now = wired.parts.clock()
    try:
        async with wired.parts.db.read(EVERY_TENANT) as session:
            account = await operators.authenticate(session, wired.parts.keys.token_hash, cookie or bearer(request), now)
    except operators.AccountAltered as refused:
        await report(wired.parts.db, refused.row, now)
        raise
    # A token that was taken from one kind of client is of no use in another.
    if account.session is not None:
        if (account.session.client == Client.BROWSER) != (cookie is not None):
            raise operators.TokenRefused
        if sessions.is_due(account.session.seen_at, now):
            async with wired.parts.db.write(EVERY_TENANT) as session:
                await sessions.seen(session, account.session.id, now)
    _establish(request)
    return account, account.actor(address(request), agent(request))


def _establish(request: Request) -> None:
    """Note that it is known who calls."""
    request.scope[ESTABLISHED] = True
    established()


async def _deny(wired: Services, actor: Actor, route: str) -> None:
    await wired.parts.audit.append(
        Event(
            kind="auth.denied",
            time=wired.parts.clock(),
            actor=actor,
            decision="denied",
            reason="role_missing",
            note=route,
        )
    )


class WorkloadCall(NamedTuple):
    """One request of an established workload."""

    workload: Workload
    actor: Actor


async def workload_of_token(request: Request, wired: Services) -> WorkloadCall:
    """The workload whose access token came along, for what is decided under guards.

    The guards know if the workload stands, so it isn't checked here.

    Raises:
        Unauthenticated: there is no such token. ProofRefused: it is bound to a key, which the caller didn't show.
    """
    # lease (1) who asks, and from where
    presented = access_tokens.presented(request.scope)
    workload, proof = await access_tokens.verified(request.scope, presented, wired)
    if proof is not None:
        await spent.spend(wired.parts.db, proof, wired.parts.clock())
    _establish(request)
    return WorkloadCall(workload, workload.actor(address(request), agent(request)))


async def establish_workload(
    request: Request, wired: Wired, _token: object = _known_to_the_api(WORKLOAD)
) -> WorkloadCall:
    """A dependency: the workload whose access token came along.

    Raises:
        Unauthenticated: there is no such token. JobRevoked: the workload stands no more. ProofRefused.
    """
    caller = await workload_of_token(request, wired)
    refuse_unknown_parameters(request)
    await wired.jobs.check(caller.workload)
    return caller


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query parameter that the route doesn't have, or that stands there twice.

    A misspelt filter would be none, and an answer about everything be taken for one about little.

    Raises:
        RequestValidationError: names it.
    """
    known = [*_parameters(request.scope["route"].dependant)]
    unknown = f"there is no such parameter here; there are: {', '.join(known)}" if known else "nothing is asked so here"
    given = Counter(name for name, _ in request.query_params.multi_items())
    refused = {name: "stands there twice" if name in known else unknown for name in given}
    refused = {name: why for name, why in refused.items() if name not in known or given[name] > 1}
    if refused:
        raise RequestValidationError(
            [{"type": "not_a_parameter", "loc": ("query", name), "msg": why} for name, why in refused.items()]
        )


def _parameters(dependant: Dependant) -> Iterator[str]:
    """The query parameters of a route and of what it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _parameters(each)


def workload_or_operator_call(*roles: Role) -> Any:  # noqa: ANN401 - FastAPI's Depends is Any
    """A dependency: a workload's call, or an operator's as :func:`operator_call` has it.

    The token's prefix tells which; a cookie is a person's.
    """

    async def establish(
        request: Request,
        wired: Wired,
        idempotency_key: IdempotencyKey = None,
        _token: object = _known_to_the_api(*_with(*roles), WORKLOAD),
    ) -> WorkloadCall | Call:
        if _is_operators(request, wired):
            return await _operators_call(request, wired, checked_key(idempotency_key), roles)
        return await establish_workload(request, wired)

    return Depends(establish, scope="function")


def _is_operators(request: Request, wired: Services) -> bool:
    if header(request.scope, b"authorization") is None:
        return cookies.name(wired.options.public_url) in request.cookies
    return access_tokens.presented(request.scope).unverified.startswith(("kbo_", "kbs_"))


# A route's parameter says by its type who may call. No stranger passes any of these, and an admin passes every role's.
ByAnyRole = Annotated[Call, operator_call()]
ByOperatorRole = Annotated[Call, operator_call(Role.OPERATOR)]
BySecurityRole = Annotated[Call, operator_call(Role.SECURITY)]
ByOperatorOrSecurityRole = Annotated[Call, operator_call(Role.OPERATOR, Role.SECURITY)]
ByAdminRole = Annotated[Call, operator_call(Role.ADMIN)]
ByWorkload = Annotated[WorkloadCall, Depends(establish_workload)]
ByWorkloadOrAnyRole = Annotated[WorkloadCall | Call, workload_or_operator_call()]
ByWorkloadOrOperatorRole = Annotated[WorkloadCall | Call, workload_or_operator_call(Role.OPERATOR)]
