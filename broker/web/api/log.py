"""/v1/audit/log: the record as a log that anybody can verify (C2SP tlog-tiles).

It tells nobody more than how many events there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import integrating, log_keys
from broker.audit.events import Event
from broker.audit.record import record
from broker.audit.series import epochs
from broker.audit.tables import CosignedRow, LogKeyRow
from broker.base.db import EVERY_TENANT
from broker.base.errors import Forbidden, NotFound
from broker.formats.tile import Tile
from broker.web.api.fields import View
from broker.web.callers import BySecurityRole, refuse_unknown_parameters
from broker.web.services import Services, Wired

# A tile that is there never changes.
_FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}
_NOT_KEPT = {"Cache-Control": "no-cache"}

router = APIRouter(prefix="/v1/audit/log", tags=["audit"], dependencies=[Depends(refuse_unknown_parameters)])


class KeysOfLog(View):
    """The key that signed until now, and the one that signs from the next checkpoint on, a line each."""

    old: str
    new: str


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
    """The keys of each epoch of the log, a signed note's verifier key a line; the last is the present one's.

    An epoch ends where the database is restored. Where checkpoints are signed with ML-DSA-44 as well, that key stands
    before the Ed25519 key. Before a key that signs no more stands a line `# good to size N`: what it signed of a larger
    size is not the broker's.
    """
    async with wired.parts.db.read(EVERY_TENANT) as session:
        found = [
            (epoch, await log_keys.keys(session, wired.parts.keys.log(epoch).name)) for epoch in await epochs(session)
        ]
    lines = [line for epoch, keys in found for row in keys for line in _lines(wired, epoch, row)]
    return PlainTextResponse("".join(line + "\n" for line in lines), headers=_NOT_KEPT)


def _lines(wired: Services, epoch: int, row: LogKeyRow) -> Iterator[str]:
    if row.good_to is not None:
        yield f"# good to size {row.good_to}"
    if wired.options.log_ml_dsa:
        yield wired.parts.keys.log_ml_dsa(epoch, row.number).key().line()
    yield wired.parts.keys.log(epoch, row.number).verifier().line()


@router.post("/rotate-key", summary="Rotate the log's signing key", response_model=KeysOfLog)
async def rotate_key(call: BySecurityRole) -> Response:
    """Sign checkpoints with a new key as well; the old one signs too for 30 days, then no more."""
    if call.scope != EVERY_TENANT:
        raise Forbidden("The log is every customer's: this needs an account that isn't limited to some of them.")
    keys = call.services.parts.keys

    async def work(session: AsyncSession) -> KeysOfLog:
        epoch = (await epochs(session))[-1]
        old, new = await log_keys.begin(session, keys.log(epoch).name, call.now)
        told = KeysOfLog(old=keys.log(epoch, old).verifier().line(), new=keys.log(epoch, new).verifier().line())
        reason = f"old={told.old},new={told.new}"
        await record(session, Event(kind="log.key_rotated", time=call.now, actor=call.actor, reason=reason))
        return told

    return await call.change(None, work)


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
