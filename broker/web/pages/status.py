"""The customer's status page: the JSON that its script speaks.

The status code of any submission of a key controls the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.base.clock import DAY_MS, Millis, later
from broker.base.db import Scope
from broker.base.validity import Validity
from broker.credentials import certificates, pausing, revocation, rotation
from broker.credentials.lifecycle import USABLE, Health, State
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.versions import serves
from broker.formats import base64url, link_proof, link_secret
from broker.formats.certificate import Certificate
from broker.formats.ids import CredentialId
from broker.incidents.shown import reported_at
from broker.intake.logged import status_link_logged
from broker.intake.proving import Proof
from broker.intake.tables import IntakeRow
from broker.intake.usage import usage
from broker.organizations.tables import OrganizationRow
from broker.rotations import next_key
from broker.rotations.next_key import POSSIBLE, Next
from broker.web.api.fields import Body, when
from broker.web.pages.intake import Arrival, Shown, common, customer, page, receipt, seal_of
from broker.web.services import Services, Wired

router = APIRouter(tags=["customer"])


class Period(Body):
    """Of how many days until now."""

    days: Annotated[int, Field(ge=1, le=90)] = 30


class Certified(Body):
    """Which of the credential's keys the certificate is of."""

    version: Annotated[int, Field(ge=1, le=1_000_000, description="Its number, as the status has it.")]


@router.get("/status/{intake_id}", response_class=HTMLResponse, include_in_schema=False)
async def status_page(request: Request, wired: Wired) -> HTMLResponse:
    """The same page for every id."""
    return page("status", request, wired)


@router.post("/status/{intake_id}/challenge", summary="Get a nonce for a status code's proof")
async def challenge(intake_id: str, wired: Wired) -> dict[str, str]:
    """A nonce for the next call's proof: the same kind of answer for every id."""
    return {"nonce": wired.links.challenge("status", intake_id)}


@router.post("/status/{intake_id}/open", summary="Show a key's status")
async def open_status(intake_id: str, body: Arrival, known: Shown, request: Request, wired: Wired) -> dict[str, Any]:
    """What became of the key, for who holds the status code."""
    row, _ = await wired.links.status_proved(intake_id, known)
    if body.in_address:
        async with wired.parts.db.write(Scope.of(row.organization_id)) as session:
            await status_link_logged(session, customer(row, request), row, now=wired.parts.clock())
    return await _status(wired, row, request)


@router.post("/status/{intake_id}/usage", summary="Show who used the key")
async def open_usage(intake_id: str, body: Period, known: Shown, wired: Wired) -> dict[str, Any]:
    """Which jobs used the key, how often, and on which days."""
    row, _ = await wired.links.status_proved(intake_id, known)
    now = wired.parts.clock()
    assert row.credential_id is not None
    async with wired.parts.db.read(Scope.of(row.organization_id)) as session:
        found = await usage(session, row.credential_id, later(now, -body.days * DAY_MS))
    today = now // DAY_MS
    return {
        "days": body.days,
        "jobs": [
            {"name": job.name, "calls": job.calls, "shown": job.shown, "last": when(job.last)} for job in found.jobs
        ],
        "per_day": [
            {"day": (when(day * DAY_MS) or "")[:10], "calls": found.days.get(day, 0)}
            for day in range(today - body.days + 1, today + 1)
        ],
    }


@router.post("/status/{intake_id}/certificate", summary="Get the certificate of one's own dead key")
async def certificate(intake_id: str, body: Certified, known: Shown, wired: Wired) -> Response:
    """What upstream last said of one of the customer's keys that is out of use, signed: a file for them to keep."""
    row, _ = await wired.links.status_proved(intake_id, known)
    assert row.credential_id is not None
    file = await wired.certificates.file(Scope.of(row.organization_id), row.credential_id, body.version)
    return Response(file.encode(), media_type="application/json")


@router.post("/status/{intake_id}/pause", summary="Pause a key")
async def pause(intake_id: str, known: Shown, request: Request, wired: Wired) -> dict[str, Any]:
    """Let nobody use the key until it is resumed; answered once no call with it can go on."""
    return await _act(wired, intake_id, known, request, pausing.pause)


@router.post("/status/{intake_id}/resume", summary="Resume a key")
async def resume(intake_id: str, known: Shown, request: Request, wired: Wired) -> dict[str, Any]:
    """Let a paused key be used again."""
    return await _act(wired, intake_id, known, request, pausing.resume)


@router.post("/status/{intake_id}/withdraw", summary="Withdraw a key")
async def withdraw(intake_id: str, known: Shown, request: Request, wired: Wired) -> dict[str, Any]:
    """Take the key back for good: cut off like a revocation, and recorded as the customer's own."""
    return await _act(wired, intake_id, known, request, revocation.withdraw)


@router.post("/status/{intake_id}/rotate", summary="Open the form for the next key")
async def rotate(intake_id: str, known: Shown, request: Request, wired: Wired) -> dict[str, Any]:
    """The request over which the customer submits the next key, now; they make its link's secret of their code."""
    row, key = await wired.links.status_proved(intake_id, known)
    async with wired.parts.db.write(Scope.of(row.organization_id)) as session:
        credential = await session.get_one(CredentialRow, row.credential_id)
        actor = customer(row, request)
        intake = await wired.rotating.by_customer(session, actor, credential, key, now=wired.parts.clock())
    recipient = link_secret.recipient_of(intake.public_key, intake.context)
    named = link_proof.next_recipient(key, known.nonce, recipient)
    return {"intake": intake.id, "seal": seal_of(intake), "answer": base64url.encode(named)}


class _Decision(Protocol):
    """What a customer decides about a credential, by its id, within a transaction."""

    async def __call__(
        self, session: AsyncSession, actor: Actor, credential_id: CredentialId, *, now: Millis
    ) -> object: ...


async def _act(
    wired: Services,
    intake_id: str,
    known: Proof,
    request: Request,
    decide: _Decision,
) -> dict[str, Any]:
    """Do what the customer decides, in one transaction of theirs; the status as it then is."""
    row, _ = await wired.links.status_proved(intake_id, known)
    assert row.credential_id is not None
    async with wired.parts.db.write(Scope.of(row.organization_id)) as session:
        await decide(session, customer(row, request), row.credential_id, now=wired.parts.clock())
    await wired.in_flight.drained(row.credential_id)
    return await _status(wired, row, request)


async def _status(wired: Services, row: IntakeRow, request: Request) -> dict[str, Any]:
    async with wired.parts.db.read(Scope.of(row.organization_id)) as session:
        credential = await session.get_one(CredentialRow, row.credential_id)
        organization = await session.get_one(OrganizationRow, row.organization_id)
        found = await session.scalars(
            select(VersionRow).where(VersionRow.credential_id == row.credential_id).order_by(VersionRow.number)
        )
        versions = list(found)
        changing = await rotation.open_of(session, credential.id, lock=False)
        first = await next_key.first_request(session, credential.id, versions)
        shared = await common(session, wired, row, request)
        received = await receipt(session, wired, row)
        version = _present(versions, row)
        stated = await certificates.newest_of_all(session, wired.parts.keys, credential.id)
        exposed = await reported_at(session, credential.id, version.number)
    following = next_key.following(credential, versions, changing, first)
    return {
        **shared,
        "contact": wired.options.vendor_contact,
        "receipt": received,
        "key": {
            "last4": version.last4,
            "fingerprint": version.fingerprint,
            "state": _state(credential, version, stated.get(version.number)),
            "certificate": _stated(stated.get(version.number)),
            "checked_at": when(version.health_at or version.verified_at),
            "received_at": when(version.staged_at),
            "active_since": when(version.activated_at),
            "paused_at": when(credential.paused_at),
            "revoked_at": when(version.revoked_at or version.destroyed_at),
            "confirmed_at": when(version.confirmed_at),
            "exposed_at": when(exposed),
            "due_at": when(credential.due_at if version.state == State.ACTIVE else None),
        },
        "older": [
            {
                "last4": older.last4,
                "state": _state_of_older(older, stated.get(older.number)),
                "certificate": _stated(stated.get(older.number)),
                "since": when(older.revoked_at),
                "confirmed_at": when(older.confirmed_at),
            }
            for older in versions
            if older.number != version.number and older.state in {State.RETIRING, State.REVOKED}
        ],
        "wanted": changing is not None and following is Next.ANSWER,
        "waits": changing is not None and following is Next.WAITS,
        "serves": serves(versions),
        "in_force": credential.state == Validity.ACTIVE,
        "can": {
            "submit": organization.state == Validity.ACTIVE and following in POSSIBLE,
            "pause": credential.state == Validity.ACTIVE and any(version.state in USABLE for version in versions),
            "withdraw": credential.state == Validity.ACTIVE,
        },
    }


def _present(versions: Sequence[VersionRow], row: IntakeRow) -> VersionRow:
    """The key that the page is about.

    It is this link's own key, until that has ended and another has taken its place.
    """
    own = next(version for version in versions if version.number == row.version)
    if own.state not in {State.RETIRING, State.REVOKED, State.DESTROYED}:
        return own
    active = next((version for version in versions if version.state == State.ACTIVE), own)
    # The sender of a refused key wants to know why, until they have sent a better one.
    return own if _was_refused(own) and active.number < own.number else active


def _was_refused(version: VersionRow) -> bool:
    return version.state == State.DESTROYED and version.verdict in {"bad_key", "other_organization"}


def _stated(found: Certificate | None) -> dict[str, Any] | None:
    """What the page says of a key's certificate."""
    if found is None:
        return None
    return {
        "version": found.version,
        "refused_at": when(Millis(found.refused.time)),
        "answered_at": when(Millis(found.answered.time)),
        "kept": found.destroyed is None,
    }


def _works_again(version: VersionRow, stated: Certificate | None) -> bool:
    """Whether upstream took the key after it had refused it, and that is the last that is known."""
    return version.confirmed_at is None and stated is not None and stated.statement == "accepted-again"


def _state_of_older(version: VersionRow, stated: Certificate | None) -> str:
    if version.state == State.RETIRING:
        return "retiring"
    if version.confirmed_at is not None:
        return "revoked"
    return "revived" if _works_again(version, stated) else "awaiting"


def _state(credential: CredentialRow, version: VersionRow, stated: Certificate | None) -> str:
    state = State(version.state)
    if _was_refused(version):
        return "refused"
    if state in {State.ACTIVE, State.RETIRING}:
        if credential.paused_at is not None:
            return "paused"
        return "failing" if version.health == Health.FAILING else "active"
    if state is State.REVOKED:
        return "dead" if version.confirmed_at else "revived" if _works_again(version, stated) else "revoked"
    return {State.STAGED: "verifying", State.VERIFIED: "held"}.get(state, state.value)
