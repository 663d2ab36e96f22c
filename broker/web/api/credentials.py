"""/v1/credentials: customers' keys, never shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import Field, SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.secret import Secret
from broker.credentials import versions
from broker.credentials.adding import add
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.versions import Place
from broker.organizations import tenants
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Label,
    Limit,
    Page,
    Reason,
    Reference,
    Variables,
    View,
    page,
    when,
)
from broker.web.api.listing import rows_of
from broker.web.session import SECURED, ByAnyone, ByEither, ByOperator

router = APIRouter(prefix="/v1/credentials", tags=["credentials"], dependencies=SECURED)

NumberPath = Annotated[int, Path(ge=1, le=1_000_000, description="The version's number.")]


class NewKey(Body):
    """A key that came another way than over a link."""

    organization: Reference
    provider: Label
    label: Label = "default"
    key: Annotated[SecretStr, Field(min_length=1, max_length=16_384)]
    variables: Annotated[Variables, Field(default_factory=dict)]


class VersionView(View):
    """One key of a credential, by last four characters and fingerprint."""

    number: int
    state: str
    verdict: str
    health: Annotated[str, Field(description="`healthy`, or `failing`: upstream refuses the key.")]
    last4: str
    fingerprint: str
    intake: str | None
    staged_at: str | None
    verified_at: str | None
    activated_at: str | None
    revoked_at: str | None
    destroyed_at: str | None


class CredentialView(View):
    """A credential with its versions, newest last."""

    id: str
    organization: str
    provider: str
    label: str
    state: str
    variables: dict[str, str]
    created_at: str | None
    revoked_at: str | None
    versions: list[VersionView]


class Added(View):
    """What came of a pasted key."""

    credential: str
    verdict: str
    version: VersionView


def show_version(row: VersionRow) -> VersionView:
    """The row as answers show it."""
    return VersionView(
        number=row.number,
        state=row.state,
        verdict=row.verdict,
        health=row.health,
        last4=row.last4,
        fingerprint=row.fingerprint,
        intake=row.intake_id,
        staged_at=when(row.staged_at),
        verified_at=when(row.verified_at),
        activated_at=when(row.activated_at),
        revoked_at=when(row.revoked_at),
        destroyed_at=when(row.destroyed_at),
    )


def show(row: CredentialRow, held: list[VersionRow]) -> CredentialView:
    """The rows as answers show them."""
    return CredentialView(
        id=row.id,
        organization=row.organization_id,
        provider=row.provider,
        label=row.label,
        state=row.state,
        variables=row.variables,
        created_at=when(row.created_at),
        revoked_at=when(row.revoked_at),
        versions=[show_version(version) for version in held],
    )


async def _with_versions(session: AsyncSession, rows: Sequence[CredentialRow]) -> list[CredentialView]:
    found = await session.scalars(
        select(VersionRow)
        .where(VersionRow.credential_id.in_([row.id for row in rows]))
        .order_by(VersionRow.credential_id, VersionRow.number)
    )
    held: dict[str, list[VersionRow]] = {row.id: [] for row in rows}
    for version in found:
        held[version.credential_id].append(version)
    return [show(row, held[row.id]) for row in rows]


@router.post("", status_code=201, response_model=Added)
async def create(body: NewKey, call: ByOperator) -> Response:
    """Take a key from an operator.  Prefer a request to the customer: a pasted key has passed through more hands."""
    wired = call.services
    async with wired.db.read(call.scope) as session:
        organization = await tenants.find_active(session, body.organization)
    place = Place(organization.id, wired.catalog.get(body.provider), body.label)
    key = Secret(body.key.get_secret_value())

    async def work() -> Added:
        row, verdict = await add(wired.verification, call.actor, place, key, dict(body.variables))
        return Added(credential=row.credential_id, verdict=verdict, version=show_version(row))

    # The digest of a repeat must tell keys apart, and a SecretStr dumps as asterisks.
    told_apart = body.model_copy(update={"label": f"{body.label}\0{wired.keys.fingerprint(key)}"})
    return await call.act(told_apart, work, 201)


@router.get("")
async def listed(
    call: ByAnyone,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Query()] = None,
) -> Page[CredentialView]:
    """Credentials, of one organization where named."""
    async with call.services.db.read(call.scope) as session:
        query = select(CredentialRow)
        if organization is not None:
            query = query.where(CredentialRow.organization_id == (await tenants.find(session, organization)).id)
        views = await _with_versions(session, await rows_of(session, query, CredentialRow.id, limit, cursor))
    return page(views, limit, lambda view: view, lambda view: view.id)


@router.get("/{credential_id}")
async def one(credential_id: IdPath, call: ByAnyone) -> CredentialView:
    """One credential."""
    async with call.services.db.read(call.scope) as session:
        return (await _with_versions(session, [await versions.get_credential(session, credential_id)]))[0]


@router.get("/{credential_id}/versions")
async def its_versions(credential_id: IdPath, call: ByAnyone) -> Page[VersionView]:
    """The versions of one credential."""
    return Page(items=(await one(credential_id, call)).versions, next=None)


@router.post("/{credential_id}/revoke", response_model=CredentialView)
async def revoke(credential_id: IdPath, body: Reason, call: ByEither) -> Response:
    """Cut a credential off for good: no lease or use of any version once this is answered."""

    async def work(session: AsyncSession) -> CredentialView:
        row = await versions.revoke_credential(session, call.actor, credential_id, reason=body.reason, now=call.now)
        return (await _with_versions(session, [row]))[0]

    return await call.cut(body, work)


@router.post("/{credential_id}/versions/{number}/revoke", response_model=VersionView)
async def revoke_version(credential_id: IdPath, number: NumberPath, body: Reason, call: ByEither) -> Response:
    """Cut one version off: no lease or use of it once this is answered."""

    async def work(session: AsyncSession) -> VersionView:
        row = await versions.revoke_version(
            session, call.actor, credential_id, number, reason=body.reason, now=call.now
        )
        return show_version(row)

    return await call.cut(body, work, credential_id)


@router.post("/{credential_id}/versions/{number}/activate", response_model=VersionView)
async def activate(credential_id: IdPath, number: NumberPath, call: ByOperator) -> Response:
    """Decide that a held version (its organization was unproven) may be used."""

    async def work(session: AsyncSession) -> VersionView:
        return show_version(await versions.activate(session, call.actor, credential_id, number, now=call.now))

    return await call.change(None, work)


@router.post("/{credential_id}/versions/{number}/destroy", response_model=VersionView)
async def destroy(credential_id: IdPath, number: NumberPath, call: ByEither) -> Response:
    """Erase the key material of a version that is not in use."""

    async def work(session: AsyncSession) -> VersionView:
        return show_version(await versions.destroy_version(session, call.actor, credential_id, number, now=call.now))

    return await call.change(None, work)
