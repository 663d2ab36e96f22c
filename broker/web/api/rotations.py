"""Changes of key: /v1/credentials/{id}/rotate begins one, /v1/rotations moves them on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.paging import by, found
from broker.credentials import rotation, versions
from broker.credentials.rotation import DEADLINE_HOURS, GRACE_MINUTES, Plan
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.tables import RotationRow
from broker.formats.ids import CredentialId, RotationId
from broker.intake import links
from broker.leases.access_holders import AccessHolder, in_use_by
from broker.organizations import commands as organizations
from broker.rotations import commands
from broker.rotations.requests import Asking
from broker.web.api.fields import (
    Body,
    Contact,
    Cursor,
    IdPath,
    IdSought,
    Limit,
    Note,
    Page,
    Reason,
    View,
    when,
)
from broker.web.api.listing import Order, OrganizationSought, ProviderSought, rows_of, shown
from broker.web.api.names import JobName, Names, Slug, slugs_of
from broker.web.callers import ByAnyRole, ByOperatorRole

router = APIRouter(prefix="/v1", tags=["rotations"])

NumberPath = Annotated[int, Path(ge=1, le=1_000_000, description="The version's number.")]


class NewRotation(Body):
    """How a key is to be replaced."""

    contact: Annotated[Contact | None, Field(description="Whom to ask; left out, who gave the present key.")] = None
    purpose: Annotated[Note, Field(description="Shown to the customer.")] = ""
    reason: Note = ""
    hours: Annotated[int, Field(ge=1, le=links.LONGEST_HOURS, description="How long the link lasts.")] = (
        links.DEFAULT_HOURS
    )
    grace_minutes: Annotated[
        int, Field(ge=0, le=43_200, description="For so long the old key is kept to fall back to.")
    ] = GRACE_MINUTES
    deadline_hours: Annotated[
        int, Field(ge=0, le=8_760, description="The old key retires by then, also where a job still holds it.")
    ] = DEADLINE_HOURS


class RotationView(View):
    """One change of key, and the facts of a decision that it may wait for."""

    id: str
    organization: str
    organization_slug: Slug
    credential: str
    provider: str
    kind: str
    state: str
    reason: str
    intake: str | None
    from_version: int | None
    to_version: int | None
    ids_of_new_key: Annotated[int | None, Field(description="How many ids upstream returned for the new key.")]
    ids_known_before: Annotated[int | None, Field(description="How many ids the key before it has shown.")]
    ids_in_both: Annotated[
        int | None,
        Field(description="None too where upstream lists more ids than were read and none of these is in both."),
    ]
    tries: Annotated[int, Field(description="How often the broker has tried to make the key, where it makes it.")]
    next_try_at: str | None
    opened_at: str | None
    activated_at: str | None
    grace_until: str | None
    retire_by: str | None
    failing_at: str | None
    ended_at: str | None


class RotationOpened(View):
    """A new rotation; the customer's one-time link is shown this once, and is None if the broker makes the key."""

    rotation: RotationView
    link: str | None


class HolderView(View):
    """A workload that has or had this version: what it still holds, and when it last used it."""

    workload: str
    workload_name: JobName
    name: Annotated[str, Field(description="As `workload_name`.", deprecated=True)]
    open_leases: int
    open_reveals: Annotated[int, Field(description="Open leases that showed the key: a copy may be in the job.")]
    holds_until: str | None
    reveals: Annotated[int, Field(description="How often it was ever shown the key; a copy outlives its lease.")]
    last_revealed: str | None
    open_uses: int
    uses: int
    last_use: str | None


class Holders(View):
    """Who holds or used a version; `held` says whether its retirement still waits for somebody."""

    items: list[HolderView]
    held: bool


def show(row: RotationRow, slugs: Names) -> RotationView:
    return RotationView(
        id=row.id,
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        credential=row.credential_id,
        provider=row.provider,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
        intake=row.intake_id,
        from_version=row.from_version,
        to_version=row.to_version,
        ids_of_new_key=row.seen_ids,
        ids_known_before=row.known_ids,
        ids_in_both=row.shared_ids,
        tries=row.tries,
        next_try_at=when(row.next_try_at),
        opened_at=when(row.opened_at),
        activated_at=when(row.activated_at),
        grace_until=when(row.grace_until),
        retire_by=when(row.retire_by),
        failing_at=when(row.failing_at),
        ended_at=when(row.ended_at),
    )


@router.post(
    "/credentials/{credential_id}/rotate", summary="Rotate a key", status_code=201, response_model=RotationOpened
)
async def rotate(credential_id: IdPath[CredentialId], body: NewRotation, call: ByOperatorRole) -> Response:
    """Ask the customer for a new key, or make one where the provider's API can.

    The present one stays in use until the new one has proved itself.
    """
    wired = call.services

    async def work(session: AsyncSession) -> RotationOpened:
        credential = await versions.get_credential(session, credential_id)
        # rotation (1) an operator wants a new key
        plan = Plan("routine", body.reason, body.grace_minutes, body.deadline_hours)
        if wired.rotating.mints(credential):
            row = await wired.rotating.mint(session, call.actor, credential, plan, now=call.now)
            return RotationOpened(rotation=await _view(session, row), link=None)
        asking = Asking(body.contact or "", body.purpose, body.hours)
        row, intake, secret = await wired.rotating.ask(session, call.actor, credential, plan, asking, now=call.now)
        link = f"{wired.options.public_url}/intake/{intake.id}#{secret}"
        return RotationOpened(rotation=await _view(session, row), link=link)

    return await call.change(body, work, 201)


@router.get("/credentials/{credential_id}/versions/{number}/holders", summary="Show who holds or used a key")
async def held_by(credential_id: IdPath[CredentialId], number: NumberPath, call: ByAnyRole) -> Holders:
    """Who still holds this version of the key, and who used it."""
    async with call.services.parts.db.read(call.scope) as session:
        await versions.get_credential(session, credential_id)
        found = await in_use_by(session, credential_id, number, now=call.now)
    return Holders(items=[_holder(one) for one in found], held=any(one.open_reveals or one.open_uses for one in found))


def _holder(one: AccessHolder) -> HolderView:
    return HolderView(
        workload=one.workload,
        workload_name=one.name,
        name=one.name,
        open_leases=one.open_leases,
        open_reveals=one.open_reveals,
        holds_until=when(one.holds_until),
        reveals=one.reveals,
        last_revealed=when(one.last_revealed),
        open_uses=one.open_uses,
        uses=one.uses,
        last_use=when(one.last_use),
    )


@router.get("/rotations", summary="List rotations")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    credential: Annotated[IdSought[CredentialId] | None, Query()] = None,
    provider: ProviderSought = None,
    state: Annotated[RotationState | None, Query()] = None,
    ended: Annotated[bool | None, Query(description="Only those that are over, or only those that are not.")] = None,
    order: Order = "oldest",
) -> Page[RotationView]:
    """Changes of keys, of the organizations that you see, of one organization, credential or provider where named."""
    row = RotationRow
    over = None if ended is None else found(row.ended_at.is_not(None) if ended else row.ended_at.is_(None))
    async with call.services.parts.db.read(call.scope) as session:
        filters = (
            by(row.credential_id, credential),
            by(row.organization_id, await organizations.sought(session, organization)),
            over if ended is False else None,
            by(row.state, state),
            by(row.provider, provider),
            over,
        )
        read = await rows_of(session, row, filters, limit, cursor, order, row.id)
        slugs = await slugs_of(session, read.rows)
    return shown(read, lambda row: show(row, slugs))


@router.get("/rotations/{rotation_id}", summary="Show a rotation")
async def one(rotation_id: IdPath[RotationId], call: ByAnyRole) -> RotationView:
    """One change of a key: its state, and the facts by which the two keys are compared."""
    async with call.services.parts.db.read(call.scope) as session:
        return await _view(session, await rotation.find(session, rotation_id, lock=False))


@router.post("/rotations/{rotation_id}/promote", summary="Take a rotation's next step", response_model=RotationView)
async def promote(rotation_id: IdPath[RotationId], call: ByOperatorRole) -> Response:
    """Take the next step: use a held key, or retire the old one before its time."""
    wired = call.services

    async def work(session: AsyncSession) -> RotationView:
        return await _view(session, await commands.promote(session, call.actor, rotation_id, now=call.now))

    response = await call.change(None, work)
    await wired.in_flight.drained(await _credential_of(call, rotation_id))
    return response


@router.post("/rotations/{rotation_id}/rollback", summary="Roll a rotation back", response_model=RotationView)
async def roll_back(rotation_id: IdPath[RotationId], body: Reason, call: ByOperatorRole) -> Response:
    """Go back to the old key; nothing uses the new one once this is answered."""

    async def work(session: AsyncSession) -> RotationView:
        row = await commands.roll_back(session, call.actor, rotation_id, reason=body.reason, now=call.now)
        return await _view(session, row)

    return await call.cut(body, work, await _credential_of(call, rotation_id))


@router.post("/rotations/{rotation_id}/cancel", summary="Cancel a rotation", response_model=RotationView)
async def cancel(rotation_id: IdPath[RotationId], body: Reason, call: ByOperatorRole) -> Response:
    """Give a rotation up before its key was in use; the customer's link stops working with the answer."""

    async def work(session: AsyncSession) -> RotationView:
        row = await commands.cancel(session, call.actor, rotation_id, reason=body.reason, now=call.now)
        return await _view(session, row)

    return await call.change(body, work)


async def _view(session: AsyncSession, row: RotationRow) -> RotationView:
    return show(row, await slugs_of(session, [row]))


async def _credential_of(call: ByAnyRole, rotation_id: RotationId) -> CredentialId:
    async with call.services.parts.db.read(call.scope) as session:
        return (await rotation.find(session, rotation_id, lock=False)).credential_id
