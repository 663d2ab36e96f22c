"""/v1/keys: keys that are held, and requests that wait for a customer, as one list."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from broker.base.paging import Cut, Sheet, by, sheet
from broker.credentials.tables import CredentialRow
from broker.formats.ids import PREFIXES, IntakeId
from broker.intake.lifecycle import IntakeState
from broker.intake.shown import showing
from broker.intake.tables import IntakeRow
from broker.organizations import commands as organizations
from broker.web.api.credentials import CredentialView, with_versions
from broker.web.api.fields import Cursor, Limit, Page, View, after
from broker.web.api.intakes import IntakeView, show
from broker.web.api.listing import LabelSought, Order, OrganizationSought, ProviderSought, shown
from broker.web.api.names import slugs_of
from broker.web.callers import ByAnyRole

router = APIRouter(prefix="/v1/keys", tags=["credentials"])

# A place among the requests is the id of one; this alone is the place before all of them.
_REQUESTS = f"{PREFIXES[IntakeId]}_"


class KeyView(View):
    """A credential with its keys, or a request for one; the other is None."""

    kind: Literal["key", "request"]
    credential: CredentialView | None
    request: Annotated[IntakeView | None, Field(description="It is open: it waits for the customer.")]


@router.get("", summary="List keys and open requests for them")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    provider: ProviderSought = None,
    label: LabelSought = None,
    order: Order = "oldest",
) -> Page[KeyView]:
    """Credentials, then requests that wait for a customer, of one organization where named."""
    place, newest = after(cursor), order == "newest"
    async with call.services.parts.db.read(call.scope) as session:
        whose = await organizations.sought(session, organization)
        credential, intake = CredentialRow, IntakeRow
        held: Sheet[CredentialRow] = Sheet([], None)
        if not place.startswith(_REQUESTS):
            filters = (
                by(credential.organization_id, whose),
                by(credential.label, label),
                by(credential.provider, provider),
            )
            held = await sheet(session, credential, filters, Cut(limit, place, newest), credential.id)
        found = [
            KeyView(kind="key", credential=view, request=None)
            for view in await with_versions(session, held.rows, call.now)
        ]
        if held.next is not None:
            return shown(Sheet(found, held.next), lambda view: view)
        room, begin = limit - len(found), "" if place == _REQUESTS else place
        asked = await sheet(
            session,
            intake,
            (
                by(intake.organization_id, whose),
                showing(IntakeState.OPEN, call.now),
                by(intake.label, label),
                by(intake.provider, provider),
            ),
            Cut(max(room, 1), begin if place.startswith(_REQUESTS) else "", newest),
            intake.id,
        )
        if not room:
            return shown(Sheet(found, _REQUESTS if asked.rows or asked.next else None), lambda view: view)
        slugs = await slugs_of(session, asked.rows)
    found += [KeyView(kind="request", credential=None, request=show(row, slugs, call.now)) for row in asked.rows]
    return shown(Sheet(found, asked.next), lambda view: view)
