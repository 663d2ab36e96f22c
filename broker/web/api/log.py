"""/v1/audit/log: the record as a log that anybody can verify (C2SP tlog-tiles).

It tells nobody more than how many events there are.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi.responses import PlainTextResponse

from broker.audit import integrating
from broker.audit.series import epochs
from broker.audit.tables import CosignedRow
from broker.base.db import EVERY_TENANT
from broker.base.errors import NotFound
from broker.formats.tile import Tile
from broker.web.callers import refuse_unknown_parameters
from broker.web.services import Wired

# A tile that is there never changes.
_FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}
_NOT_KEPT = {"Cache-Control": "no-cache"}

router = APIRouter(prefix="/v1/audit/log", tags=["audit"], dependencies=[Depends(refuse_unknown_parameters)])


@router.get("/checkpoint", summary="Read the log's newest checkpoint", response_class=PlainTextResponse)
async def checkpoint(wired: Wired) -> Response:
    """The signed size and root of the log, with cosignatures that there are by now (C2SP tlog-checkpoint)."""
    async with wired.parts.db.read(EVERY_TENANT) as session:
        newest = await integrating.newest(session)
        kept = None if newest is None else await session.get(CosignedRow, (newest.origin, newest.size))
    if newest is None:
        raise NotFound("The log has no checkpoint yet; where a worker runs, it makes the first within seconds.")
    return PlainTextResponse(newest.note if kept is None else kept.note, headers=_NOT_KEPT)


@router.get("/cosigned", summary="Read the newest checkpoint that enough witnesses cosigned")
async def cosigned(wired: Wired) -> PlainTextResponse:
    """A checkpoint with the cosignatures of as many witnesses as the broker is set to ask for.

    Whoever reads it verifies them by the witnesses' own keys.
    """
    async with wired.parts.db.read(EVERY_TENANT) as session:
        note = await integrating.cosigned(session, wired.options.witness_quorum)
    if note is None:
        raise NotFound(
            "No checkpoint has enough cosignatures. If witnesses are listed (BROKER_WITNESSES_FILE), the worker asks "
            "them every few seconds; /v1/audit/log/checkpoint has the newest one without."
        )
    return PlainTextResponse(note, headers=_NOT_KEPT)


@router.get("/key", summary="Read the keys that verify checkpoints", response_class=PlainTextResponse)
async def key(wired: Wired) -> Response:
    """A key for each epoch of the log, a signed note's verifier key a line; the last is the present one's.

    An epoch ends where the database is restored. Where checkpoints are signed with ML-DSA-44 as well, that key stands
    before the epoch's Ed25519 key.
    """
    async with wired.parts.db.read(EVERY_TENANT) as session:
        found = await epochs(session)
    keys, lines = wired.parts.keys, list[str]()
    for epoch in found:
        if wired.options.log_ml_dsa:
            lines.append(keys.log_ml_dsa(epoch).key().line())
        lines.append(keys.log(epoch).verifier().line())
    return PlainTextResponse("".join(line + "\n" for line in lines), headers=_NOT_KEPT)


@router.get("/tile/{path:path}", summary="Read a tile of the log")
async def tile(
    path: Annotated[str, Path(description="Of hashes: `0/x001/x234/067`, `1/000.p/17`; of entries: `entries/000`.")],
    wired: Wired,
) -> Response:
    """Hashes of the log's tree, or its entries (C2SP tlog-tiles); an entry is an event's 32-byte commitment."""
    wanted = Tile.at(f"tile/{path}")
    async with wired.parts.db.read(EVERY_TENANT) as session:
        found = None if wanted is None else await integrating.tile(session, wanted)
    if found is None:
        raise NotFound("The log has no such tile; its checkpoint tells its size, and that which tiles there are.")
    return Response(found, media_type="application/octet-stream", headers=_FOR_GOOD)
