"""/v1/intakes: ask a customer for a key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.paging import by
from broker.credentials.versions import CredentialAddress
from broker.formats.ids import IntakeId
from broker.intake import links
from broker.intake.lifecycle import IntakeState
from broker.intake.shown import showing, state_of
from broker.intake.tables import IntakeRow
from broker.organizations import commands as organizations
from broker.rotations import commands
from broker.web.api.fields import (
    Body,
    Contact,
    Cursor,
    IdPath,
    Label,
    Limit,
    Note,
    Page,
    Reference,
    View,
    when,
)
from broker.web.api.listing import LabelSought, Order, OrganizationSought, ProviderSought, rows_of, shown
from broker.web.api.names import Names, Slug, slugs_of
from broker.web.callers import ByAnyRole, ByOperatorRole, Call

router = APIRouter(prefix="/v1/intakes", tags=["intakes"])


class NewIntake(Body):
    """Whom to ask for which key.  The link is sent by the operator, over their own channel."""

    organization: Reference
    provider: Label
    label: Label = "default"
    contact: Annotated[Contact, Field(description="The Organization Admin's e-mail address, for the record.")]
    purpose: Annotated[Note, Field(description="Shown to the customer: what the key will be used for.")] = ""
    hours: Annotated[int, Field(ge=1, le=links.LONGEST_HOURS, description="How long the link lasts.")] = (
        links.DEFAULT_HOURS
    )


class IntakeView(View):
    """A request for a key."""

    id: str
    organization: str
    organization_slug: Slug
    provider: str
    label: str
    contact: str
    purpose: str
    requested_by: str
    state: str
    link_version: Annotated[int, Field(description="Links of version 1 don't name whom the key is sealed to.")]
    refusal: str
    rotation: str | None
    credential: str | None
    version: int | None
    created_at: str | None
    expires_at: str | None
    submitted_at: str | None
    settled_at: str | None


class Again(Body):
    """For how long a new link lasts."""

    hours: Annotated[int, Field(ge=1, le=links.LONGEST_HOURS)] = links.DEFAULT_HOURS


class IntakeCreated(View):
    """A new request and its one-time link, shown this once."""

    intake: IntakeView
    link: str
    also_open: Annotated[
        list[IntakeView], Field(description="Other open requests for the same credential's first key; one is enough.")
    ]


def show(row: IntakeRow, slugs: Names, now: Millis) -> IntakeView:
    return IntakeView(
        id=row.id,
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        provider=row.provider,
        label=row.label,
        contact=row.contact,
        purpose=row.purpose,
        requested_by=row.requested_by,
        state=state_of(row, now),
        link_version=1 if row.link_key is None else 2,
        refusal=row.refusal,
        rotation=row.rotation_id,
        credential=row.credential_id,
        version=row.version,
        created_at=when(row.created_at),
        expires_at=when(row.expires_at),
        submitted_at=when(row.submitted_at),
        settled_at=when(row.settled_at),
    )


@router.post("", summary="Request a key from a customer", status_code=201, response_model=IntakeCreated)
async def create(body: NewIntake, call: ByOperatorRole) -> Response:
    """Make a one-time link for a customer's Organization Admin."""
    wired = call.services
    definition = wired.parts.catalog.get(body.provider)

    async def work(session: AsyncSession) -> IntakeCreated:
        organization = await organizations.find_active(session, body.organization)
        wanted = links.Wanted(
            CredentialAddress(organization.id, definition, body.label),
            body.contact,
            body.purpose,
            body.hours,
            call.account.name,
        )
        row, secret = await links.request(session, wired.parts, call.actor, wanted, now=call.now)
        return await _created(session, call, row, secret)

    return await call.change(body, work, 201)


@router.get("", summary="List requests for keys")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    provider: ProviderSought = None,
    label: LabelSought = None,
    state: Annotated[IntakeState | None, Query()] = None,
    order: Order = "oldest",
) -> Page[IntakeView]:
    """Requests to customers for keys, of one organization where named."""
    now = call.now
    row = IntakeRow
    async with call.services.parts.db.read(call.scope) as session:
        filters = (
            by(row.organization_id, await organizations.sought(session, organization)),
            None if state is None else showing(state, now),
            by(row.label, label),
            by(row.provider, provider),
        )
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
        slugs = await slugs_of(session, found.rows)
    return shown(found, lambda row: show(row, slugs, now))


@router.get("/{intake_id}", summary="Show a request for a key")
async def one(intake_id: IdPath[IntakeId], call: ByAnyRole) -> IntakeView:
    """One request; its link is not shown again."""
    async with call.services.parts.db.read(call.scope) as session:
        return await _one(session, call, await links.get(session, intake_id))


@router.post("/{intake_id}/cancel", summary="Cancel a request for a key", response_model=IntakeView)
async def cancel(intake_id: IdPath[IntakeId], call: ByOperatorRole) -> Response:
    """Take an open request back; its link stops working with the answer."""

    async def work(session: AsyncSession) -> IntakeView:
        row = await links.get(session, intake_id)
        if row.rotation_id is not None and row.state == IntakeState.OPEN:
            await commands.cancel(session, call.actor, row.rotation_id, reason="", now=call.now)
            return await _one(session, call, await links.get(session, intake_id))
        return await _one(session, call, await links.cancel(session, call.actor, intake_id, now=call.now))

    return await call.change(None, work)


@router.post("/{intake_id}/link", summary="Replace a request's link", response_model=IntakeCreated)
async def replace_link(intake_id: IdPath[IntakeId], body: Again, call: ByOperatorRole) -> Response:
    """Make a new link for a request that still waits, also if its link has expired; the previous one stops working."""
    wired = call.services

    async def work(session: AsyncSession) -> IntakeCreated:
        row, secret = await links.replace(session, wired.parts, call.actor, intake_id, hours=body.hours, now=call.now)
        return await _created(session, call, row, secret)

    return await call.change(body, work)


async def _one(session: AsyncSession, call: Call, row: IntakeRow) -> IntakeView:
    return show(row, await slugs_of(session, [row]), call.now)


async def _created(session: AsyncSession, call: Call, row: IntakeRow, secret: str) -> IntakeCreated:
    slugs = await slugs_of(session, [row])
    return IntakeCreated(
        intake=show(row, slugs, call.now),
        link=f"{call.services.options.public_url}/intake/{row.id}#{secret}",
        also_open=[show(other, slugs, call.now) for other in await links.also_open(session, row, now=call.now)],
    )
