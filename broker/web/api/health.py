"""Probes and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from broker.base.errors import Unavailable
from broker.web.services import Wired

router = APIRouter(tags=["operations"])

# A probe that doesn't need the keystore waits for it no longer than this, whatever deadline Vault has.
_TOLD_WITHIN_S = 1.0


@router.get("/healthz", summary="Ask whether the process answers")
async def healthz() -> dict[str, str]:
    """The process answers; for whoever restarts it.

    It asks neither the database nor the keystore.
    """
    return {"status": "ok"}


@router.get("/readyz", summary="Ask whether the broker is ready", responses={503: {}})
async def readyz(wired: Wired, need: Annotated[Literal["database"] | None, Query()] = None) -> JSONResponse:
    """The parts that answers need, database and keystore, each by name; 503 while one that is needed is down.

    The database is ok while a use could be put on the record, so not where it can only be read; it is ``behind`` where
    it was restored from a backup, until `broker restored` and a new start.

    ``clock`` tells why irreversible work rests, and is never a 503: answers go by a time that holds meanwhile, and
    where every replica's clock seems off, none would be left.

    ``issuers`` names an issuer of platforms' tokens that can't be asked any more, or whose file here says something
    else than at the broker that does the periodic work.  It is never a 503 either: only jobs without keys need them.

    With ``need=database`` a keystore that is away is told but is no 503: revoking, granting and the record go on.  So
    a load balancer asks for that, and monitoring for both.
    """
    waited = _keystore(wired) if need is None else _within(_TOLD_WITHIN_S, _keystore(wired))
    database, keystore = await asyncio.gather(_database(wired), waited)
    ready = database == "ok" and (need is not None or keystore == "ok")
    issuers = await _within(_TOLD_WITHIN_S, wired.federation.state()) if database == "ok" else "unknown"
    parts = {"database": database, "keystore": keystore, "clock": wired.timekeeping.state, "issuers": issuers}
    return JSONResponse({"status": "ok" if ready else "unavailable", **parts}, 200 if ready else 503)


async def _within(seconds: float, telling: Awaitable[str]) -> str:
    try:
        return await asyncio.wait_for(telling, seconds)
    except TimeoutError:
        return "slow"


async def _database(wired: Wired) -> str:
    return "behind" if wired.parts.audit.closed else await wired.parts.audit.durability.state()


async def _keystore(wired: Wired) -> str:
    try:
        await wired.parts.keystore.check()
    except Unavailable as unavailable:
        return str(unavailable.members.get("cause", unavailable.code))
    except Exception as error:  # noqa: BLE001 - a probe reports every fault by its kind
        return type(error).__name__
    return "ok"


@router.get(
    "/metrics", summary="Read the metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response
)
async def metrics(wired: Wired) -> Response:
    """Prometheus metrics: routes and statuses, no tenants."""
    return Response(generate_latest(wired.metrics.registry), media_type=CONTENT_TYPE_LATEST)
