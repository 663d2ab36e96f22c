"""Probes and metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from broker.base.db import EVERY_TENANT
from broker.base.errors import Unavailable
from broker.web.session import Wired

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {}})
async def readyz(wired: Wired) -> JSONResponse:
    """The parts that every answer needs: database and keystore, each by name."""
    parts = {"database": await _database(wired), "keystore": await _keystore(wired)}
    ready = all(state == "ok" for state in parts.values())
    return JSONResponse({"status": "ok" if ready else "unavailable", **parts}, 200 if ready else 503)


async def _database(wired: Wired) -> str:
    try:
        async with wired.db.read(EVERY_TENANT) as session:
            await session.execute(text("SELECT 1"))
    except Exception as error:  # noqa: BLE001 - a probe reports every fault by its kind
        return type(error).__name__
    return "ok"


async def _keystore(wired: Wired) -> str:
    try:
        await wired.keystore.check()
    except Unavailable as unavailable:
        return str(unavailable.members.get("cause", unavailable.code))
    except Exception as error:  # noqa: BLE001 - a probe reports every fault by its kind
        return type(error).__name__
    return "ok"


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
async def metrics(wired: Wired) -> Response:
    """Prometheus metrics: routes and statuses, no tenants."""
    return Response(generate_latest(wired.metrics.registry), media_type=CONTENT_TYPE_LATEST)
