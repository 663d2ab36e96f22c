"""/v1/credentials: customers' keys, never shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import Field, SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Millis
from broker.base.paging import by
from broker.base.secret import Secret
from broker.base.validity import Validity
from broker.care import policies
from broker.credentials import revocation, versions
from broker.credentials.lifecycle import Health, State
from broker.credentials.manual_entry import add
from broker.credentials.staging import Received
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.versions import CredentialAddress
from broker.formats.ids import CredentialId
from broker.intake.status_codes import replace_status_codes
from broker.leases.attention import BY_DUE_TIME, Selection, selected
from broker.organizations import commands as organizations
from broker.rotations import commands
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Label,
    Limit,
    MaybeContact,
    Page,
    Reason,
    Reference,
    Variables,
    View,
    after,
    page,
    when,
)
from broker.web.api.listing import LabelSought, Order, OrganizationSought, ProviderSought, rows_of, shown
from broker.web.api.names import Names, Slug, slugs_of
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, ByOperatorRole

router = APIRouter(prefix="/v1/credentials", tags=["credentials"])

NumberPath = Annotated[int, Path(ge=1, le=1_000_000, description="The version's number.")]


class NewKey(Body):
    """A key that came another way than over a link."""

    organization: Reference
    provider: Label
    label: Label = "default"
    key: Annotated[SecretStr, Field(min_length=1, max_length=16_384)]
    variables: Annotated[Variables, Field(default_factory=dict)]
    contact: Annotated[MaybeContact, Field(description="The Organization Admin's e-mail address.")] = ""


class VersionView(View):
    """One key of a credential, by last four characters and fingerprint."""

    number: int
    state: str
    verdict: str
    health: Annotated[
        str,
        Field(
            description="`healthy`, `failing` (upstream refuses the key), `unreachable` (it did not answer) or `gone` "
            "(the key is not in Vault any more); a key that is revoked or destroyed is never `healthy`."
        ),
    ]
    status: Annotated[
        str, Field(description="The state in words; of a revoked key, whether upstream is known to refuse it too.")
    ]
    last4: str
    fingerprint: str
    intake: str | None
    staged_at: str | None
    verified_at: str | None
    activated_at: str | None
    retired_at: str | None
    revoked_at: str | None
    revocation_confirmed_at: str | None
    awaiting_days: Annotated[int | None, Field(description="For so long upstream may still have taken the key.")]
    destroyed_at: str | None


class CredentialView(View):
    """A credential with its versions, newest last."""

    id: str
    organization: str
    organization_slug: Slug
    provider: str
    label: str
    state: str
    variables: dict[str, str]
    contact: str
    paused_at: str | None
    rotation_days: int | None
    max_age_days: int | None
    on_max_age: str
    created_at: str | None
    revoked_at: str | None
    versions: list[VersionView]


class Added(View):
    """What came of a pasted key."""

    credential: str
    verdict: str
    version: VersionView


# What such a key's health was says nothing any more.
_OVER = frozenset({State.REVOKED, State.DESTROYED})


def show_version(row: VersionRow, now: Millis) -> VersionView:
    awaiting = row.state == State.REVOKED and row.confirmed_at is None
    return VersionView(
        number=row.number,
        state=row.state,
        verdict=row.verdict,
        health="" if row.state in _OVER and row.health == Health.HEALTHY else row.health,
        last4=row.last4,
        fingerprint=row.fingerprint,
        intake=row.intake_id,
        staged_at=when(row.staged_at),
        verified_at=when(row.verified_at),
        activated_at=when(row.activated_at),
        status=_status(row),
        retired_at=when(row.retired_at),
        revoked_at=when(row.revoked_at),
        revocation_confirmed_at=when(row.confirmed_at),
        awaiting_days=max(0, now - row.revoked_at) // DAY_MS if awaiting and row.revoked_at else None,
        destroyed_at=when(row.destroyed_at),
    )


def _status(row: VersionRow) -> str:
    if row.state == State.REVOKED and row.confirmed_at is None:
        return "awaiting upstream revocation"
    if row.confirmed_at is not None:
        return f"revoked (confirmed upstream at {when(row.confirmed_at)})"
    return row.state


def show(row: CredentialRow, held: list[VersionRow], slugs: Names, now: Millis) -> CredentialView:
    """The answer's views of these rows."""
    return CredentialView(
        id=row.id,
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        provider=row.provider,
        label=row.label,
        state=row.state,
        variables=row.variables,
        contact=row.contact,
        paused_at=when(row.paused_at),
        rotation_days=row.rotation_days,
        max_age_days=row.max_age_days,
        on_max_age=row.on_max_age,
        created_at=when(row.created_at),
        revoked_at=when(row.revoked_at),
        versions=[show_version(version, now) for version in held],
    )


async def with_versions(session: AsyncSession, rows: Sequence[CredentialRow], now: Millis) -> list[CredentialView]:
    """The answer's views of these rows, in their order."""
    if not rows:
        return []
    slugs = await slugs_of(session, rows)
    found = await session.scalars(
        select(VersionRow)
        .where(VersionRow.credential_id.in_([row.id for row in rows]))
        .order_by(VersionRow.credential_id, VersionRow.number)
    )
    held: dict[CredentialId, list[VersionRow]] = {row.id: [] for row in rows}
    for version in found:
        held[version.credential_id].append(version)
    return [show(row, held[row.id], slugs, now) for row in rows]


@router.post("", summary="Add a key that came another way", status_code=201, response_model=Added)
async def create(body: NewKey, call: ByOperatorRole) -> Response:
    """Take a key from an operator.  Prefer a request to the customer: a pasted key has passed through more hands."""
    wired = call.services
    async with wired.parts.db.read(call.scope) as session:
        organization = await organizations.find_active(session, body.organization)
    address = CredentialAddress(organization.id, wired.parts.catalog.get(body.provider), body.label)
    key = Secret(body.key.get_secret_value())

    async def work() -> Added:
        received = Received(key, dict(body.variables), contact=body.contact)
        row, verdict = await add(wired.parts, wired.verification, call.actor, address, received)
        return Added(credential=row.credential_id, verdict=verdict, version=show_version(row, call.now))

    # A SecretStr dumps as asterisks, but the digest of a repeat must tell keys apart.
    told_apart = body.model_copy(update={"label": f"{body.label}\0{wired.parts.keys.fingerprint(key)}"})
    return await call.act(told_apart, work, 201)


@router.get("", summary="List credentials")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    provider: ProviderSought = None,
    label: LabelSought = None,
    state: Annotated[Validity | None, Query()] = None,
    only: Annotated[Selection | None, Query(description="Only those that need something: see the names.")] = None,
    order: Order = "oldest",
) -> Page[CredentialView]:
    """Credentials, of one organization where named.

    A key that is known by its organization, provider and label is found by these three and ``state=active``: there is
    at most one.  A revoked one leaves its label to the next, so without ``state`` its predecessors are there too,
    oldest first.  ``due_soon`` and ``overdue`` come by the times at which their keys have to be replaced.
    """
    row, ahead_days = CredentialRow, call.services.options.rotation_ahead_days
    key = (row.due_at, row.id) if only in BY_DUE_TIME else (row.id,)
    async with call.services.parts.db.read(call.scope) as session:
        filters = (
            by(row.organization_id, await organizations.sought(session, organization)),
            None if only is None else selected(only, call.now, ahead_days=ahead_days),
            by(row.label, label),
            by(row.provider, provider),
            by(row.state, state),
        )
        found = await rows_of(session, row, filters, limit, cursor, order, *key)
        views = {view.id: view for view in await with_versions(session, found.rows, call.now)}
    return shown(found, lambda row: views[row.id])


@router.get("/{credential_id}", summary="Show a credential")
async def one(credential_id: IdPath[CredentialId], call: ByAnyRole) -> CredentialView:
    """One credential, with every key that it has had and the policy for their age."""
    async with call.services.parts.db.read(call.scope) as session:
        return (await with_versions(session, [await versions.get_credential(session, credential_id)], call.now))[0]


@router.get("/{credential_id}/versions", summary="List a credential's versions")
async def its_versions(
    credential_id: IdPath[CredentialId], call: ByAnyRole, limit: Limit = 100, cursor: Cursor = ""
) -> Page[VersionView]:
    """Every key that a credential has had, from the first one, with the state of each."""
    position = after(cursor)
    held = [version for version in (await one(credential_id, call)).versions if _place(version) > position]
    return page(held, limit, lambda version: version, _place)


def _place(version: VersionView) -> str:
    return f"{version.number:07}"


@router.post("/{credential_id}/revoke", summary="Revoke a credential for good", response_model=CredentialView)
async def revoke(credential_id: IdPath[CredentialId], body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """Cut a credential off for good: no lease or use of any version once this is answered."""

    async def work(session: AsyncSession) -> CredentialView:
        row = await revocation.revoke_credential(session, call.actor, credential_id, reason=body.reason, now=call.now)
        return (await with_versions(session, [row], call.now))[0]

    return await call.cut(body, work)


@router.post(
    "/{credential_id}/versions/{number}/revoke", summary="Revoke one version of a key", response_model=VersionView
)
async def revoke_version(
    credential_id: IdPath[CredentialId], number: NumberPath, body: Reason, call: ByOperatorOrSecurityRole
) -> Response:
    """Cut one version off: no lease or use of it once this is answered."""

    async def work(session: AsyncSession) -> VersionView:
        row = await commands.revoke_version(
            session, call.actor, credential_id, number, reason=body.reason, now=call.now
        )
        return show_version(row, call.now)

    return await call.cut(body, work, credential_id)


@router.post(
    "/{credential_id}/versions/{number}/activate", summary="Take a held key into use", response_model=VersionView
)
async def activate(credential_id: IdPath[CredentialId], number: NumberPath, call: ByOperatorRole) -> Response:
    """Decide that a held version (its organization was unproven) may be used."""

    async def work(session: AsyncSession) -> VersionView:
        row = await commands.activate(session, call.actor, credential_id, number, now=call.now)
        return show_version(row, call.now)

    return await call.change(None, work)


@router.post(
    "/{credential_id}/versions/{number}/destroy", summary="Destroy a version's key material", response_model=VersionView
)
async def destroy(credential_id: IdPath[CredentialId], number: NumberPath, call: ByOperatorOrSecurityRole) -> Response:
    """Erase the key material of a version that is not in use."""
    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> VersionView:
        parts = call.services.parts
        row = await commands.destroy_version(session, parts, call.actor, credential_id, number, now=call.now)
        return show_version(row, call.now)

    return await call.change(None, work)


class StatusCode(View):
    """A customer's status code, shown this once, and the page where they paste it."""

    status_page: str
    status_code: str


@router.post(
    "/{credential_id}/status-link", summary="Make a new status code for the customer", response_model=StatusCode
)
async def replace_status_code(credential_id: IdPath[CredentialId], call: ByOperatorRole) -> Response:
    """Make a new status code for the customer; every code and status link before stops working."""
    wired = call.services

    async def work(session: AsyncSession) -> StatusCode:
        await versions.get_credential(session, credential_id)
        row, code = await replace_status_codes(session, wired.parts.keys, call.actor, credential_id, now=call.now)
        return StatusCode(status_page=f"{wired.options.public_url}/status/{row.id}", status_code=code)

    return await call.change(None, work)


class Policy(Body):
    """How old the credential's keys may become; None leaves it to the organization's, then to the provider's."""

    rotation_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    max_age_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    on_max_age: Annotated[
        Literal["warn", "refuse"],
        Field(description="What happens to a key over `max_age_days`: it is listed, or refused."),
    ] = "warn"


@router.post("/{credential_id}/policy", summary="Set a credential's age policy", response_model=CredentialView)
async def policy(credential_id: IdPath[CredentialId], body: Policy, call: ByOperatorRole) -> Response:
    """Decide how old the credential's keys may become."""

    async def work(session: AsyncSession) -> CredentialView:
        wanted = policies.Age(body.rotation_days, body.max_age_days, body.on_max_age)
        row = await policies.of_credential(session, call.actor, credential_id, wanted, now=call.now)
        return (await with_versions(session, [row], call.now))[0]

    return await call.change(body, work)
