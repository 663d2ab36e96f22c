"""/v1/trusts: jobs that prove themselves by the tokens of their platforms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field, SecretStr
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT
from broker.base.paging import Filter, by
from broker.base.validity import Validity
from broker.formats.ids import Reference, TrustId
from broker.grants import jobs
from broker.identity.federation import trusts
from broker.identity.federation.explaining import Brought, Check, explain
from broker.identity.federation.tables import TrustRow
from broker.identity.tables import WorkloadRow
from broker.identity.workloads import NoSuchWorkload
from broker.issuers.files import IssuerFile
from broker.issuers.unverified import OTHERS
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Label,
    Limit,
    Line,
    Moment,
    Note,
    Page,
    Reason,
    View,
    milliseconds,
    when,
)
from broker.web.api.fields import Reference as ReferenceField
from broker.web.api.issuers import declared
from broker.web.api.listing import Order, WorkloadSought, rows_of, shown
from broker.web.callers import ByAdminRole, ByAnyRole, ByOperatorOrSecurityRole, Call

router = APIRouter(prefix="/v1/trusts", tags=["trusts"])

Values = Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=20)]


class NewTrust(Body):
    """Which tokens are a job's: for each claim the values of which one has to be there, exactly."""

    workload: ReferenceField
    issuer: Annotated[Label, Field(description="The issuer's id.")]
    claims: Annotated[dict[Line, Values], Field(max_length=20, description="By short names, such as repository_id.")]
    networks: Annotated[
        list[Line],
        Field(max_length=20, default_factory=list, description="Where tokens may come from (CIDR); none is anywhere."),
    ]
    expires_at: Moment | None = None
    note: Note = ""


class TrustView(View):
    """A trust; ``warnings`` tell what of its values may be meant otherwise than it is taken."""

    id: str
    workload: str
    workload_name: str
    issuer: str
    claims: dict[str, list[str]]
    networks: list[str]
    state: str
    note: str
    created_by: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    warnings: list[str]


class AskedToken(Body):
    """A token that a job would bring.  It is checked and thrown away."""

    workload: ReferenceField
    token: Annotated[
        SecretStr, Field(min_length=1, max_length=OTHERS.length, description="The platform's token, a JWT.")
    ]
    address: Annotated[
        Line | None, Field(description="The address that the job calls from, for trusts that name networks.")
    ] = None


class CheckView(View):
    """A check; ``passed`` is null if it couldn't be made.  ``code`` is a refusal's word on the record."""

    check: str
    passed: bool | None
    presented: str
    expected: str
    code: str
    fix: str


class TrustChecks(View):
    """What one trust says to the token."""

    trust: str
    takes: bool
    checks: list[CheckView]


class ExplainedView(View):
    """What a sign-in would say.  ``trust`` would take the token; if it is empty, none would."""

    accepted: bool
    issuer: str
    trust: str
    checks: list[CheckView]
    trusts: list[TrustChecks]


def show(row: TrustRow, workload: str, issuer: IssuerFile | None) -> TrustView:
    """The answer's view of a trust of the job of that name."""
    return TrustView(
        id=row.id,
        workload=row.workload_id,
        workload_name=workload,
        issuer=row.issuer,
        claims=row.claims,
        networks=row.networks,
        state=row.state,
        note=row.note,
        created_by=row.created_by,
        created_at=when(row.created_at),
        expires_at=when(row.expires_at),
        revoked_at=when(row.revoked_at),
        warnings=issuer.kind.warnings(row.claims) if issuer else [f"No issuer {row.issuer} is declared any more."],
    )


@router.post("", summary="Trust a platform's tokens", status_code=201, response_model=TrustView)
async def create(body: NewTrust, call: ByAdminRole) -> Response:
    """Trust the tokens of an issuer that say just this to be a job's."""
    call.insist_on_a_fresh_person()
    issuer = declared(call.services, body.issuer)

    async def work(session: AsyncSession) -> TrustView:
        workload = await jobs.find(session, call.account, Reference(body.workload), now=call.now)
        row = await trusts.create(
            session,
            call.actor,
            workload,
            issuer,
            claims=body.claims,
            networks=body.networks,
            expires_at=milliseconds(body.expires_at),
            note=body.note,
            now=call.now,
        )
        await jobs.insist_that_nobody_gains_sight(session, call.account, workload, now=call.now)
        return show(row, workload.name, issuer)

    return await call.change(body, work, 201, scope=EVERY_TENANT)


@router.get("", summary="List trusts")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    workload: WorkloadSought = None,
    issuer: Annotated[Label | None, Query(description="Only of this issuer.")] = None,
    state: Annotated[Validity | None, Query()] = None,
    expiring_days: Annotated[
        int | None, Query(ge=0, le=3650, description="Only those in force that end within so many days.")
    ] = None,
    order: Order = "oldest",
) -> Page[TrustView]:
    """Every trust; for an account that is limited to some customers, those of the jobs that it may see."""
    row = TrustRow
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        whose = await jobs.find(session, call.account, workload, now=call.now) if workload else None
        filters = (
            by(row.workload_id, whose.id if whose else None),
            by(row.issuer, issuer),
            by(row.state, Validity.ACTIVE if expiring_days is not None and state is None else state),
            None if expiring_days is None else _ending(call.now, expiring_days),
            _within(call),
        )
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
        names = await _names(session, found.rows)
    issuers = call.services.federation.issuers
    return shown(found, lambda each: show(each, names[each.workload_id], issuers.get(each.issuer)))


def _ending(now: Millis, days: int) -> Filter:
    return Filter(TrustRow.expires_at.between(now + 1, now + days * DAY_MS))


def _within(call: Call) -> Filter | None:
    """The filter of the trusts of jobs within the account's limits; None if it has none."""
    limits = jobs.within(call.account, call.now)
    return limits and Filter(exists().where(WorkloadRow.id == TrustRow.workload_id, limits.condition))


async def _names(session: AsyncSession, rows: Iterable[TrustRow]) -> dict[str, str]:
    """The names of these trusts' jobs, by id."""
    found = {row.workload_id for row in rows}
    jobs_ = await session.scalars(select(WorkloadRow).where(WorkloadRow.id.in_(found)))
    return {job.id: job.name for job in jobs_}


@router.get("/{trust_id}", summary="Show a trust")
async def one(trust_id: IdPath[TrustId], call: ByAnyRole) -> TrustView:
    """One trust: which tokens of which issuer are which job's."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        return await _present(session, call, await trusts.find(session, trust_id))


async def _present(session: AsyncSession, call: Call, row: TrustRow) -> TrustView:
    """The view of a trust of a job that the account may see; raises NoSuchTrust, WorksForOthers."""
    try:
        workload = await jobs.find(session, call.account, Reference(row.workload_id), now=call.now)
    except NoSuchWorkload:
        raise trusts.NoSuchTrust from None
    return show(row, workload.name, call.services.federation.issuers.get(row.issuer))


@router.post("/{trust_id}/revoke", summary="Revoke a trust", response_model=TrustView)
async def revoke(trust_id: IdPath[TrustId], body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """End a trust: what was proved by it ends with the answer."""

    async def work(session: AsyncSession) -> TrustView:
        row = await trusts.revoke(session, call.actor, trust_id, reason=body.reason, now=call.now)
        return await _present(session, call, row)

    return await call.cut(body, work, scope=EVERY_TENANT)


@router.post("/explain", summary="Try a platform's token")
async def explained(body: AskedToken, call: ByAnyRole) -> ExplainedView:
    """What a sign-in with this token would say, check by check, with what would fix a refusal.

    The token is checked as a real one is, but not spent, kept or recorded.
    """
    parts = call.services.parts
    async with parts.db.read(EVERY_TENANT) as session:
        workload = await jobs.find(session, call.account, Reference(body.workload), now=call.now)
    brought = Brought(body.token.get_secret_value().strip(), body.address or "")
    found = await explain(parts, call.services.federation, workload, brought)
    return ExplainedView(
        accepted=bool(found.trust),
        issuer=found.issuer,
        trust=found.trust,
        checks=_checks(found.checks),
        trusts=[TrustChecks(trust=one.id, takes=one.takes, checks=_checks(one.checks)) for one in found.trusts],
    )


def _checks(checks: Iterable[Check]) -> list[CheckView]:
    return [
        CheckView(
            check=one.name,
            passed=one.passed,
            presented=one.presented,
            expected=one.expected,
            code=one.code,
            fix=one.fix,
        )
        for one in checks
    ]
