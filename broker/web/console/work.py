"""Long work, and what follows the record: how far each is, and what goes on with it.

All of it is asked of the database, so it is the same whoever does the work, and after whatever ended it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import archives, integrating
from broker.audit.search import Filter, search
from broker.audit.tables import ArchiveRow, EventRow, HeadRow
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.base.errors import Forbidden
from broker.leases import use_days
from broker.siem import cursors
from broker.web.api.fields import when
from broker.web.callers import BySecurityRole, Call
from broker.web.console.page import page, routes

router = routes()

# The worker goes on every second, so what is younger is on its way.
_ON_ITS_WAY_MS: Final = 60_000
# Of keystore work, the last events are looked through for its beginning and its end.
_LOOKED_AT: Final = 10


@dataclass(frozen=True, slots=True)
class Follower:
    """Somebody who follows the record: how many of its events they have.

    ``since`` is when the next one happened.
    """

    name: str
    done: int
    total: int
    since: str | None
    word: str


@dataclass(frozen=True, slots=True)
class Move:
    """When values were begun to be moved to another master key last, and when that was done."""

    began: str | None
    ended: str | None

    def word(self, done: int | None, total: int) -> str:
        """Whether it is under way, or is still to be made as not all are ``done``."""
        if self.began is not None and self.ended is None:
            return "under way"
        return "ok" if done == total else "waiting"


@dataclass(frozen=True, slots=True)
class Archived:
    """How many of the record's events are in archives, and of how many months.

    The ``last`` of these was archived ``at`` that time, and is ``half`` here if it wasn't taken out whole.
    """

    done: int
    total: int
    months: int
    last: str | None
    at: str | None
    oldest: str | None
    half: bool


@router.get("/settings/work")
async def work(call: BySecurityRole) -> Response:
    """How far everything is that takes long."""
    if call.scope != EVERY_TENANT:
        raise Forbidden("Work on every customer's values is shown to accounts without limits.")
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        followers = await _followers(session, call.now)
        archived = await _archived(session)
    sealed, move = await call.services.census.now(), await _moved(call)
    word = move.word(sealed.present, sealed.total)
    return page(call, "work.html", sealed=sealed, move=move, word=word, followers=followers, archived=archived)


async def _followers(session: AsyncSession, now: Millis) -> list[Follower]:
    size = await _size(session)
    places = {
        "The log": await integrating.size(session),
        "Uses by day": await use_days.counted_to(session),
        **{f"Sink {name}": at for name, at in (await cursors.places(session)).items()},
    }
    query = select(EventRow.idx, EventRow.time).where(EventRow.idx.in_(set(places.values())))
    times = {row.idx: row.time for row in await session.execute(query)}
    return [_follower(name, at, size, times.get(at), now) for name, at in places.items()]


def _follower(name: str, at: int, size: int, since: Millis | None, now: Millis) -> Follower:
    behind = at < size and since is not None and since <= now - _ON_ITS_WAY_MS
    return Follower(name, min(at, size), size, when(since) if at < size else None, "behind" if behind else "ok")


async def _size(session: AsyncSession) -> int:
    return await session.scalar(select(HeadRow.size)) or 0


async def _archived(session: AsyncSession) -> Archived:
    first = await archives.first_here(session)
    row = ArchiveRow
    months, last, at = (
        await session.execute(select(func.count(), func.max(row.month), func.max(row.archived_at)).select_from(row))
    ).one()
    here = await session.scalar(select(EventRow.idx).order_by(EventRow.idx).limit(1))
    oldest = await archives.oldest(session)
    return Archived(
        done=first,
        total=await _size(session),
        months=months,
        last=archives.named(last) if months else None,
        at=when(at),
        oldest=None if oldest is None else archives.named(oldest),
        half=here is not None and here < first,
    )


async def _moved(call: Call) -> Move:
    """The last move of values, as the record has it; no more of the record is shown."""
    found = await search(call.services.parts.db, EVERY_TENANT, Filter(kind="keystore.*", newest=True), _LOOKED_AT)
    began = next((one for one in found if one.core["kind"] == "keystore.rewrap_begun"), None)
    if began is None:
        return Move(None, None)
    ended = [one for one in found if one.core["kind"] == "keystore.rewrapped" and one.index > began.index]
    return Move(_time(began.core), _time(ended[-1].core) if ended else None)


def _time(core: Mapping[str, Any]) -> str | None:
    return when(core["time"])
