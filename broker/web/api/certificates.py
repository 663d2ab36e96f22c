"""Certificates of keys that are dead upstream, and what verifies them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse, Response

from broker.formats.ids import CredentialId
from broker.web.api.credentials import NumberPath
from broker.web.api.fields import IdPath
from broker.web.callers import ByAnyRole, refuse_unknown_parameters
from broker.web.services import Wired

router = APIRouter(prefix="/v1", tags=["credentials"])


@router.get("/credentials/{credential_id}/versions/{number}/certificate", summary="Get the proof that a key is dead")
async def certificate(
    credential_id: IdPath[CredentialId],
    number: NumberPath,
    call: ByAnyRole,
    serial: Annotated[
        int | None, Query(ge=1, le=1_000_000, description="An earlier one of this version; left out, the newest.")
    ] = None,
) -> Response:
    """What the upstream last said of a key that is out of use here, signed, with the receipts of its events."""
    file = await call.services.certificates.file(call.scope, credential_id, number, serial)
    named = {"Content-Disposition": f'attachment; filename="{credential_id}-{number}.certificate.json"'}
    return Response(file.encode(), media_type="application/json", headers=named)


@router.get(
    "/certificates/key",
    summary="Read the key that verifies certificates",
    response_class=PlainTextResponse,
    dependencies=[Depends(refuse_unknown_parameters)],
)
async def key(wired: Wired) -> Response:
    """A signed note's verifier key, a line of text; it stays the same for good."""
    return PlainTextResponse(wired.parts.keys.certifying.verifier().line() + "\n")
