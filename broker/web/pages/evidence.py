"""What a customer keeps of their key's uses: receipts, and a file that has all.

Both are verified without the vendor (:mod:`broker.client.verify`).  They name nobody: personal parts are withheld.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from broker.audit import exporting, receipts
from broker.audit.events import Event
from broker.audit.search import Filter, search
from broker.base.clock import DAY_MS, later
from broker.base.db import Scope
from broker.base.errors import Conflict, NotFound
from broker.formats.ids import AuditEventId
from broker.intake.tables import IntakeRow
from broker.intake.usage import names_of_jobs
from broker.web.api.fields import Body, IdSought, when
from broker.web.pages.intake import Shown, customer
from broker.web.services import Services, Wired

# The latest uses that the page offers receipts of, and events that a file for the page may have.
_USES = 20
_EVENTS = 20_000

router = APIRouter(tags=["customer"])


class Whole(Body):
    """Of how many days until now."""

    days: Annotated[int, Field(ge=1, le=90, description="Until now.")] = 30


class OneUse(Body):
    """Which use the receipt is of."""

    event: Annotated[IdSought[AuditEventId], Field(description="Its event, as the list of uses has it.")]


@router.post("/status/{intake_id}/uses", summary="List the latest uses of a key")
async def uses(intake_id: str, known: Shown, wired: Wired) -> dict[str, Any]:
    """The latest uses of the customer's key, newest first, each by the event that proves it."""
    row, _ = await wired.links.status_proved(intake_id, known)
    scope = Scope.of(row.organization_id)
    wanted = Filter(credential=row.credential_id or "", kind="use.authorized", newest=True)
    found = [one.core for one in await search(wired.parts.db, scope, wanted, _USES)]
    async with wired.parts.db.read(scope) as session:
        names = await names_of_jobs(session, {core["workload"] for core in found})
    shown = [
        {
            "event": core["id"],
            "time": when(core["time"]),
            "job": names.get(core["workload"], core["workload"]),
            "method": core["target"]["method"],
        }
        for core in found
    ]
    return {"uses": shown}


@router.post("/status/{intake_id}/receipt", summary="Get the receipt of a use")
async def receipt(intake_id: str, body: OneUse, known: Shown, request: Request, wired: Wired) -> dict[str, str]:
    """That one use of the customer's key is in the log: a C2SP tlog-proof, as a text."""
    row, _ = await wired.links.status_proved(intake_id, known)
    scope = Scope.of(row.organization_id)
    await _note(wired, row, request, subject=body.event)
    found = await receipts.of_event(wired.parts.db, scope, body.event, personal=False)
    return {"file": found.decode()}


@router.post("/status/{intake_id}/export", summary="Get all of an organization's events")
async def export(intake_id: str, body: Whole, known: Shown, request: Request, wired: Wired) -> dict[str, str]:
    """All events of the customer's organization in a time, in a file that shows that none is left out, as a text."""
    row, _ = await wired.links.status_proved(intake_id, known)
    parts, now = wired.parts, wired.parts.clock()
    await _note(wired, row, request)
    wanted = await exporting.between(parts.db, row.organization_id, later(now, -body.days * DAY_MS), None, now)
    if wanted.last.size - (wanted.first.size if wanted.first else 0) > _EVENTS:
        raise Conflict(
            "There are too many events for this page. Choose a shorter time, or ask the vendor for the file."
        )
    lines = [line async for line in exporting.of_organization(parts.db, wanted, personal=False)]
    return {"file": b"".join(lines).decode()}


async def _note(wired: Services, row: IntakeRow, request: Request, *, subject: str = "") -> None:
    """Put it on the record that the customer gets proofs."""
    if row.credential_id is None:
        raise NotFound("There is no key yet.")
    await wired.parts.audit.append(
        Event.about(row, "audit.exported", customer(row, request), wired.parts.clock(), reason="core", subject=subject)
    )
